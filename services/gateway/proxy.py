"""Calls of services, passed on as they come: answers streamed, both ways bounded, over kept connections."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from libs.errors import InvalidError, UnavailableError, VoltageError
from libs.http.bodies import UPLOADS
from libs.http.problems import TooLargeError
from services.gateway.settings import ProxySettings

logger = logging.getLogger(__name__)

# RFC 9110 section 7.6.1: these speak about one connection, not about the message.
HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
# The session's cookie is between the page and the gateway; Host and Expect are each hop's own.
NOT_FORWARDED: Final = HOP_BY_HOP | {"host", "cookie", "content-length", "expect"}
NOT_RETURNED: Final = HOP_BY_HOP | {"set-cookie", "date", "server"}
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SMALL: Final = 65_536


class Proxy:
    """Passes calls on to services."""

    def __init__(self, session: aiohttp.ClientSession, settings: ProxySettings) -> None:
        """Keep the session, whose connector bounds the connections."""
        self._session = session
        self._settings = settings

    async def forward(self, request: web.Request, service: str, address: str) -> web.StreamResponse:
        """Send a request to a service and its answer back.

        Raises:
            UnavailableError: the service is away or silent; says whether the call may have had an effect.
            web.HTTPRequestEntityTooLarge: the body is over the limit.
        """
        if request.content_type in UPLOADS:
            return await self._stream(request, service, address)
        # Read whole, which the application's limit bounds: a body that is refused half-way, or whose
        # sender goes away, never reaches a service as half a call.
        body = await request.read()
        try:
            upstream = await self._session.request(
                request.method,
                URL(address + request.raw_path, encoded=True),
                headers=_kept(request.headers, NOT_FORWARDED),
                data=io.BytesIO(body) if body else None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(request, service, error) from None
        async with upstream:
            return await _answer(request, service, upstream)

    async def _stream(self, request: web.Request, service: str, address: str) -> web.StreamResponse:
        """Pass a file on as it comes; one that breaks off breaks off there, too, and is nothing whole.

        Raises:
            TooLargeError: the file is over the limit.
            UnavailableError: the service is away, or stopped taking it.
        """
        upload = Upload(request, self._settings)
        headers = _kept(request.headers, NOT_FORWARDED)
        if request.content_length is not None:
            headers[hdrs.CONTENT_LENGTH] = str(request.content_length)
        # The answer comes after the whole file, however long that takes; each part has its time.
        timeout = aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s, sock_read=None)
        try:
            async with upload.patience:
                upstream = await self._session.request(
                    request.method,
                    URL(address + request.raw_path, encoded=True),
                    headers=headers,
                    data=upload.parts(),
                    allow_redirects=False,
                    timeout=timeout,
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if upload.problem is not None:
                raise upload.problem from None
            raise _away(request, service, error) from None
        async with upstream:
            return await _answer(request, service, upstream)


class Upload:
    """A request's body as it comes, up to a limit."""

    def __init__(self, request: web.Request, settings: ProxySettings) -> None:
        """Refuse at once what says that it is too large."""
        self._request = request
        self._settings = settings
        self.problem: VoltageError | None = None
        # Over when nobody took a part, or answered the last one.
        self.patience = asyncio.timeout(None)
        self._check(request.content_length or 0)

    def _check(self, size: int) -> None:
        limit = self._settings.max_upload_bytes
        if size > limit:
            self.problem = TooLargeError(f"the file is larger than {limit} bytes (GATEWAY_PROXY_MAX_UPLOAD_BYTES)")
            raise self.problem

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield it."""
        size, loop = 0, asyncio.get_running_loop()
        while True:
            # A service may answer before it has the whole file: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self.patience.reschedule(loop.time() + self._settings.upload_timeout_s + self._settings.read_timeout_s)
            try:
                async with asyncio.timeout(self._settings.upload_timeout_s):
                    part = await self._request.content.readany()
            except (TimeoutError, aiohttp.ClientError, web.RequestPayloadError, OSError) as error:
                self.problem = InvalidError(f"the file broke off after {size} bytes: {error!r}")
                raise self.problem from None
            if not part:
                return
            size += len(part)
            self._check(size)
            yield part


def _kept(headers: Mapping[str, str], without: frozenset[str]) -> CIMultiDict[str]:
    """Return headers without those of one hop, and without those `Connection` names."""
    named = {name.strip().lower() for name in headers.get(hdrs.CONNECTION, "").split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in without | named)


async def _answer(request: web.Request, service: str, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = _kept(upstream.headers, NOT_RETURNED)
    size = upstream.content_length
    if request.method == "HEAD" or (size is not None and size <= SMALL):
        try:
            body = await upstream.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(request, service, error) from None
        if request.method != "HEAD":
            headers.popall(hdrs.CONTENT_LENGTH, None)
        return web.Response(status=upstream.status, headers=headers, body=body)
    answer = web.StreamResponse(status=upstream.status, headers=headers)
    await answer.prepare(request)
    try:
        async for chunk in upstream.content.iter_any():
            await answer.write(chunk)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # Half an answer must not look whole: the caller's connection breaks as the service's did.
        logger.warning("%s broke off its answer to %s %s: %r", service, request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return answer


def _away(request: web.Request, service: str, error: Exception) -> UnavailableError:
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    reason = "is away" if never_sent else "did not answer"
    known = never_sent or request.method in SAFE
    outcome = "" if known else "; whether the call had an effect is not known"
    logger.warning("%s %s: %s %s: %r", request.method, request.path, service, reason, error)
    return UnavailableError(f"{service} {reason}{outcome}")


def make_session(settings: ProxySettings) -> aiohttp.ClientSession:
    """Return the session all calls go through."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=settings.connections, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=(hdrs.CONTENT_TYPE, hdrs.USER_AGENT, hdrs.ACCEPT_ENCODING, hdrs.ACCEPT),
    )
