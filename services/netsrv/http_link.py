"""HTTP(S): one request a message, in order; 2xx removes it, other 4xx put it aside, the rest is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp

from libs.errors import UnavailableError
from services.netsrv.disk_queue import Stored
from services.netsrv.link import LaterError, Link, tls_context
from services.netsrv.schemas import Tls

# 4xx that say "not now" instead of "never".
TRANSIENT: Final = frozenset({408, 429})
MAX_AFTER_S: Final = 3600
# Of an answer so much is read, and after masking so much shown: half a secret is none.
READ_BODY: Final = 4096
SHOWN_BODY: Final = 200


class HttpLink(Link):
    """A server."""

    async def session(self) -> None:
        """Send until an attempt fails; the connection is kept between messages."""
        context = tls_context(self.network.tls or Tls())
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, ssl=context),
            timeout=aiohttp.ClientTimeout(total=self.network.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers(),
        ) as client:
            while True:
                messages = await self.queue.peek(1)
                if messages:
                    await self._send(client, messages[0])
                else:
                    await self.queue.wait()

    def _headers(self) -> dict[str, str]:
        headers = dict(self.network.headers or {})
        secret = self.secret
        if secret.token:
            token = secret.token.get_secret_value()
            if self.network.token_header:
                headers[self.network.token_header] = token
            else:
                headers["Authorization"] = f"Bearer {token}"
        elif secret.basic:
            headers["Authorization"] = f"Basic {secret.basic}"
        return headers

    async def _send(self, client: aiohttp.ClientSession, one: Stored) -> None:
        message = one.message
        headers = {
            "Content-Type": "text/plain; charset=utf-8" if message.text else "application/json",
            # The same for every attempt, so that a server may tell a repeat from a new message.
            "Idempotency-Key": f"{self.queue.name}-{one.id}",
        }
        try:
            async with client.request(
                self.network.method or "POST",
                (self.network.url or "") + message.target,
                data=message.payload,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                body = (await answer.content.read(READ_BODY)).decode(errors="replace")
        except TimeoutError:
            raise UnavailableError(f"no answer within {self.network.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from None
        said = f"HTTP {answer.status} {self.secret.masked(body)[:SHOWN_BODY]}".strip()
        await self._judge(one, answer.status, said, answer.headers)

    async def _judge(self, one: Stored, status: int, said: str, headers: Mapping[str, str]) -> None:
        if 200 <= status < 300:
            self.up()
            await self.queue.sent([one.id])
            self.worked()
        elif 400 <= status < 500 and status not in TRANSIENT:
            self.up()
            await self.fault(said)
            await self.queue.dead_letter(one.id, said)
        else:
            after = headers.get("Retry-After", "")
            raise LaterError(said, min(float(after), MAX_AFTER_S)) if after.isdigit() else UnavailableError(said)
