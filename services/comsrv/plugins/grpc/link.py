"""One connection to a device gateway: each call with its deadline, each failure as a DeviceError."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from time import monotonic
from typing import Any, Final, TypeVar

# What its C core says on standard error is in our errors already; it is read when the module is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc
from grpc import StatusCode, aio

from services.comsrv.contract import DeviceError, NoAnswerError, NotConnectedError, RefusedError
from services.comsrv.plugins.grpc import gateway_pb2 as pb
from services.comsrv.plugins.grpc.parameters import Parameters, Tls

SERVICE: Final = "/voltage.gateway.v1.DeviceGateway/"
# A gateway that has said nothing for so many time-outs is taken for gone, whatever TCP says.
SILENT_TIMEOUTS: Final = 3
# Time-outs that come after this part of our own deadline are ours.
OWN_DEADLINE: Final = 0.9
OPTIONS: Final = (
    # A write is sent once. Reads are the poller's to repeat.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # Each channel of the site has a connection of its own, so that none waits for another.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.min_reconnect_backoff_ms", 100),
)

T = TypeVar("T")


class StatusError(RefusedError):
    """The gateway answered with a status: its name is the quality."""

    def __init__(self, status: StatusCode, message: str) -> None:
        """Keep the status as number and as quality."""
        super().__init__(int(status.value[0]), message)
        self.quality = f"bad:{status.name.lower()}"

    @property
    def unimplemented(self) -> bool:
        """True where the gateway does not have the call."""
        return self.exception_code == StatusCode.UNIMPLEMENTED.value[0]


class Link:
    """A connection. Every call raises a DeviceError when it fails."""

    def __init__(self, parameters: Parameters, port: int) -> None:
        """Prepare; nothing is connected before `open`."""
        self.closed = asyncio.Event()
        host = f"[{parameters.host}]" if ":" in parameters.host else parameters.host
        self._target = f"{host}:{port}"
        self._timeout_s = parameters.timeout_ms / 1000
        try:
            token = parameters.token()
        except ValueError as error:
            raise NotConnectedError(str(error)) from None
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = _channel(self._target, parameters.tls)
        self._heard = monotonic()
        self._describe = self._method("Describe", pb.DescribeRequest, pb.Description)
        self._read = self._method("ReadBatch", pb.ReadRequest, pb.ReadReply)
        self._write = self._method("Write", pb.WriteRequest, pb.WriteReply)
        self._stream = self._channel.unary_stream(
            f"{SERVICE}Stream", pb.StreamRequest.SerializeToString, pb.Events.FromString
        )

    def _method(self, name: str, request: Any, reply: Any) -> Any:
        return self._channel.unary_unary(f"{SERVICE}{name}", request.SerializeToString, reply.FromString)

    async def open(self) -> pb.Description:
        """Connect and ask the gateway who it is."""
        try:
            found: pb.Description = await self._call(self._describe(pb.DescribeRequest(), **self._options()))
        except RefusedError as error:
            raise NotConnectedError(f"{self._target} is no device gateway: {error}") from None
        except NoAnswerError as error:
            raise NotConnectedError(str(error)) from None
        return found

    async def read(self, request: pb.ReadRequest, timeout_s: float | None = None) -> pb.ReadReply:
        """Read points of one device."""
        found: pb.ReadReply = await self._call(self._read(request, **self._options(timeout_s)), timeout_s)
        return found

    async def write(self, request: pb.WriteRequest) -> None:
        """Write one point."""
        if self._channel.get_state() is not grpc.ChannelConnectivity.READY:
            raise NotConnectedError(f"{self._target}: the connection was lost")
        await self._call(self._write(request, **self._options()))

    async def listen(self, request: pb.StreamRequest) -> AsyncIterator[pb.Events]:
        """Yield what the gateway pushes; read no further than is asked for, so that HTTP/2 holds the gateway back."""
        call = self._stream(request, metadata=self._metadata)
        try:
            while True:
                events = await self._guarded(call.read())
                if not isinstance(events, pb.Events):
                    # EOF: the gateway ended the stream.
                    return
                yield events
        finally:
            call.cancel()

    async def close(self) -> None:
        """Give the connection back; calls under way end with NotConnectedError."""
        self.closed.set()
        await self._channel.close()

    def _options(self, timeout_s: float | None = None) -> dict[str, Any]:
        return {"timeout": self._timeout_s if timeout_s is None else timeout_s, "metadata": self._metadata}

    async def _call(self, call: Awaitable[T], timeout_s: float | None = None) -> T:
        """Await a call and note that the gateway is there."""
        began, longest = monotonic(), self._timeout_s if timeout_s is None else timeout_s
        try:
            found = await self._guarded(call)
        except NoAnswerError:
            now = monotonic()
            if now - began < OWN_DEADLINE * longest:
                # Said by the gateway, before our own deadline: its device is silent, it is not.
                self._heard = now
            elif now - self._heard >= SILENT_TIMEOUTS * self._timeout_s:
                text = f"{self._target}: nothing was heard for {now - self._heard:.1f} s"
                raise NotConnectedError(text, sent=True) from None
            raise
        except RefusedError:
            self._heard = monotonic()
            raise
        self._heard = monotonic()
        return found

    async def _guarded(self, call: Awaitable[T]) -> T:
        """Await what grpc does, and translate its failures."""
        try:
            return await call
        except aio.AioRpcError as error:
            raise self._translated(error) from None
        except (aio.UsageError, asyncio.CancelledError):
            # Closing a connection cancels what waits for it, as if somebody had cancelled the waiting task.
            task = asyncio.current_task()
            if not self.closed.is_set() or (task is not None and task.cancelling()):
                raise
            raise NotConnectedError(f"{self._target}: the connection was closed", sent=True) from None

    def _translated(self, error: aio.AioRpcError) -> DeviceError:
        status, text = error.code(), f"{self._target}: {error.code().name}: {(error.details() or '')[:200]}"
        if status is StatusCode.DEADLINE_EXCEEDED:
            return NoAnswerError(text)
        if status in {StatusCode.UNAVAILABLE, StatusCode.UNAUTHENTICATED, StatusCode.CANCELLED}:
            return NotConnectedError(text, sent=status is not StatusCode.UNAUTHENTICATED)
        return StatusError(status, text)


def _channel(target: str, tls: Tls | None) -> aio.Channel:
    if tls is None:
        return aio.insecure_channel(target, OPTIONS)
    try:
        parts = [_content(name) for name in (tls.ca_file, tls.key_file, tls.certificate_file)]
    except OSError as error:
        raise NotConnectedError(str(error)) from None
    named = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return aio.secure_channel(target, grpc.ssl_channel_credentials(*parts), (*OPTIONS, *named))


def _content(path: str) -> bytes | None:
    """Return a file as it is now; certificates are exchanged while a site runs."""
    if not path:
        return None
    with open(path, "rb") as file:  # noqa: PTH123 - small, and read at each connection only
        return file.read()
