"""A device gateway in 150 lines: the server of gateway.proto for a device that lives in memory.

It is written with grpclib, shares no code with VoltageEMS, and could be in any language.
`gateway_pb2` beside it is made from the .proto, see docs/grpc.md.

    python gateway.py 50051
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import Any

import gateway_pb2 as pb
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

SERVICE = "/voltage.gateway.v1.DeviceGateway/"
# What was pushed and may have to be pushed again: the cursor is its number.
KEPT = 10_000
# Ids of writes that are known.
KNOWN = 1000


class Device:
    """Numbers and texts by name; what changes is numbered and timed."""

    def __init__(self, writable: set[str], **values: float | str) -> None:
        self.values: dict[str, float | str] = dict(values)
        self.writable = writable
        self.quality: dict[str, str] = {}
        self.answers = True

    def describe(self, name: str) -> list[pb.PointDescription]:
        types = {True: pb.PointDescription.TEXT, False: pb.PointDescription.NUMBER}
        return [
            pb.PointDescription(
                device=name, name=point, type=types[isinstance(value, str)], writable=point in self.writable
            )
            for point, value in self.values.items()
        ]


class Gateway:
    """Serves devices."""

    def __init__(self, devices: dict[str, Device], token: str = "") -> None:
        self.devices = devices
        self.token = token
        self.writes: list[tuple[str, str, str, float]] = []
        self.streams = 0
        self._known: dict[str, None] = {}
        self._log: deque[tuple[int, str, str, int, float, str]] = deque(maxlen=KEPT)
        self._number = 0
        self._news = asyncio.Condition()

    async def change(
        self, device: str, name: str, value: float, *, at_ms: int | None = None, quality: str = ""
    ) -> None:
        """A point changed, now or at an instant of the device's own clock: keep it, and push it."""
        if not quality.startswith("bad:"):
            self.devices[device].values[name] = value
        self._number += 1
        at_ms = int(time.time() * 1000) if at_ms is None else at_ms
        self._log.append((self._number, device, name, at_ms, value, quality))
        async with self._news:
            self._news.notify_all()

    # The four calls.

    async def describe(self, stream: Any) -> None:
        await self._request(stream)
        points = [point for name, device in self.devices.items() for point in device.describe(name)]
        await stream.send_message(pb.Description(name="example gateway", version="1", points=points))

    async def read_batch(self, stream: Any) -> None:
        request = await self._request(stream)
        device = self._device(request.device)
        reply = pb.ReadReply(at_ms=int(time.time() * 1000))
        for place, name in enumerate((*request.numbers, *request.texts)):
            value = device.values.get(name)
            wanted = float if place < len(request.numbers) else str
            known = isinstance(value, (str, float, int)) and isinstance(value, str) is (wanted is str)
            quality = device.quality.get(name, "") if known else "bad:unknown_point"
            if quality:
                reply.quality[place] = quality
            if wanted is str:
                reply.texts.append(str(value) if known else "")
            else:
                reply.numbers.append(float(value) if known else 0.0)
        await stream.send_message(reply)

    async def write(self, stream: Any) -> None:
        request = await self._request(stream)
        device = self._device(request.device)
        if request.name not in device.writable:
            raise GRPCError(Status.PERMISSION_DENIED, f"{request.name} is not writable")
        if request.id not in self._known:
            self._known[request.id] = None
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]
            self.writes.append((request.id, request.device, request.name, request.number))
            await self.change(request.device, request.name, request.number)
        await stream.send_message(pb.WriteReply())

    async def stream(self, stream: Any) -> None:
        request = await self._request(stream)
        places = {(point.device, point.name): place for place, point in enumerate(request.points)}
        sent = int(request.cursor or self._number)
        await stream.send_message(pb.Events(cursor=str(sent)))
        self.streams += 1
        try:
            while True:
                async with self._news:
                    while self._number <= sent:
                        await self._news.wait()
                events = [
                    pb.Event(point=places[device, name], at_ms=at_ms, number=value, quality=quality)
                    for number, device, name, at_ms, value, quality in self._log
                    if number > sent and (device, name) in places
                ]
                sent = self._number
                # Waits here while the client does not read.
                await stream.send_message(pb.Events(events=events, cursor=str(sent)))
        finally:
            self.streams -= 1

    async def _request(self, stream: Any) -> Any:
        if self.token and stream.metadata.get("authorization") != f"Bearer {self.token}":
            raise GRPCError(Status.UNAUTHENTICATED, "the token is not accepted")
        return await stream.recv_message()

    def _device(self, name: str) -> Device:
        device = self.devices.get(name)
        if device is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no device {name}")
        if not device.answers:
            raise GRPCError(Status.DEADLINE_EXCEEDED, f"{name} does not answer")
        return device

    def __mapping__(self) -> dict[str, Handler]:
        unary, pushing = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        return {
            f"{SERVICE}Describe": Handler(self.describe, unary, pb.DescribeRequest, pb.Description),
            f"{SERVICE}ReadBatch": Handler(self.read_batch, unary, pb.ReadRequest, pb.ReadReply),
            f"{SERVICE}Write": Handler(self.write, unary, pb.WriteRequest, pb.WriteReply),
            f"{SERVICE}Stream": Handler(self.stream, pushing, pb.StreamRequest, pb.Events),
        }


async def main(port: int) -> None:
    """Serve until the process ends. Each line of standard input is a change: `{"name": "power", "value": 24}`."""
    genset = Device({"start", "setpoint"}, power=23.5, breaker=1, start=0, setpoint=0, state="running")
    gateway = Gateway({"genset": genset})
    server = Server([gateway])
    await server.start("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        change = json.loads(line)
        await gateway.change("genset", change["name"], change["value"], at_ms=change.get("at_ms"))
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
