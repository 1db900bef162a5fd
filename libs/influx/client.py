"""An InfluxDB server: lines go out by one of three dialects, InfluxQL comes back by /query.

v3 (`/api/v3/write_lp`, InfluxDB 3), v2 (`/api/v2/write`, InfluxDB 2 and 3, by
influxdb-client) and v1 (`/write`, InfluxDB 1). `/query` is the one way to read that
all three have.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final, Literal, NamedTuple

import aiohttp
import orjson
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.rest import ApiException

from libs.errors import UnavailableError

# What a server says about the lines, not about us or itself: unparsable, type conflict, outside retention, too large.
_REFUSALS: Final = frozenset({400, 413, 422})
_OK: Final = frozenset({200, 204})
_NOT_FOUND: Final = 404
_TEXT: Final = 500


class Server(NamedTuple):
    """Where and how. `token` may be `user:password` (v1). `bucket` is v2's, `database` that of the others."""

    url: str
    api: Literal["v3", "v2", "v1", "victoria"] = "v2"
    token: str = ""
    org: str = ""
    bucket: str = "ems_data"
    database: str = "ems_data"
    timeout_s: float = 30

    @property
    def source(self) -> str:
        """The database InfluxQL reads; a bucket answers under its own name."""
        return self.bucket if self.api == "v2" else self.database


class RefusedError(Exception):
    """The server does not take these lines, and would not take them later."""


class QueryError(Exception):
    """The server does not understand or does not allow a query."""


class Influx:
    """A connection to a server. Raises UnavailableError while it can't be used."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._session: aiohttp.ClientSession | None = None
        self._writer: InfluxDBClientAsync | None = None

    async def open(self) -> None:
        """Make the connections; v1's database is made where it is missing and the user may."""
        server, timeout = self.server, aiohttp.ClientTimeout(total=self.server.timeout_s)
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=timeout, headers=_authorization(server))
        if server.api == "v2" and self._writer is None:
            self._writer = InfluxDBClientAsync(
                server.url, server.token, server.org, timeout=int(server.timeout_s * 1000), enable_gzip=True
            )
        await self.ping()
        if server.api == "v1":
            name = server.database.replace("\\", "\\\\").replace('"', '\\"')
            status, text = await self._ask("POST", "/query", params={"q": f'CREATE DATABASE "{name}"'})
            if status not in {200, 401, 403}:
                raise UnavailableError(f"InfluxDB {server.url}: {_reason(text)}")

    async def ping(self) -> None:
        """Ask whether the server is there."""
        status, text = await self._ask("GET", "/ping")
        if status not in _OK:
            raise UnavailableError(f"InfluxDB {self.server.url}: {status} {_reason(text)}")

    async def write(self, lines: list[str]) -> None:
        """Write lines with precision ms; a line that was written before changes nothing.

        Raises:
            RefusedError: at least one line is refused; the others may be written or not.
            UnavailableError: the server is away, busy, or does not let us in.
        """
        body = "\n".join(lines).encode()
        how = {"v3": self._write_v3, "v2": self._write_v2}.get(self.server.api, self._write_v1)
        status, text = await how(body)
        if status in _OK:
            return
        reason = _reason(text)
        if status in _REFUSALS:
            raise RefusedError(reason or f"status {status}")
        raise UnavailableError(f"InfluxDB {self.server.url} takes no lines: {status} {reason}")

    async def ask(self, path: str, params: dict[str, str]) -> str:
        """Return the text of an answer to a form; what VictoriaMetrics speaks.

        Raises:
            QueryError: the server refuses the question.
            UnavailableError: the server is away.
        """
        status, text = await self._ask("POST", path, data=params)
        if status in {400, 422}:
            raise QueryError(_reason(text))
        if status not in _OK:
            raise UnavailableError(f"{self.server.url} answers no query: {status} {_reason(text)}")
        return text

    async def _write_v1(self, body: bytes) -> tuple[int, str]:
        return await self._ask("POST", "/write", params={"db": self.server.database, "precision": "ms"}, body=body)

    async def _write_v3(self, body: bytes) -> tuple[int, str]:
        # All or nothing: what is refused is halved until the bad lines stand alone, as with the others.
        params = {"db": self.server.database, "precision": "millisecond", "accept_partial": "false"}
        return await self._ask("POST", "/api/v3/write_lp", params=params, body=body)

    async def _write_v2(self, body: bytes) -> tuple[int, str]:
        if self._writer is None:
            raise UnavailableError(f"InfluxDB {self.server.url} is not open")
        try:
            # The client annotates a class where it takes the text.
            precision: Any = "ms"
            await self._writer.write_api().write(self.server.bucket, self.server.org, body, write_precision=precision)
        except ApiException as error:
            return error.status or 0, _text(error.body) or str(error.reason or "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"InfluxDB {self.server.url}: {_cause(error)}") from error
        return 204, ""

    async def query(self, statement: str) -> list[dict[str, Any]]:
        """Return the series of one InfluxQL statement: {name, tags, columns, values}, instants in ms.

        Raises:
            QueryError: the server refuses the statement.
            UnavailableError: the server is away.
        """
        params = {"db": self.server.source, "epoch": "ms", "q": statement}
        status, text = await self._ask("GET", "/query", params=params)
        if status in {400, 422}:
            raise QueryError(_reason(text))
        if status == _NOT_FOUND and self.server.api == "v3":
            return []  # The first write makes the database.
        if status not in _OK:
            raise UnavailableError(f"InfluxDB {self.server.url} answers no query: {status} {_reason(text)}")
        try:
            result = orjson.loads(text)["results"][0]
        except (ValueError, LookupError, TypeError) as error:
            raise UnavailableError(f"InfluxDB {self.server.url}: unreadable answer: {text[:_TEXT]}") from error
        if problem := result.get("error"):
            raise QueryError(str(problem))
        series: list[dict[str, Any]] = result.get("series") or []
        return series

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: bytes | None = None,
        data: dict[str, str] | None = None,
    ) -> tuple[int, str]:
        if self._session is None:
            raise UnavailableError(f"InfluxDB {self.server.url} is not open")
        try:
            url = self.server.url.rstrip("/") + path
            async with self._session.request(method, url, params=params, data=data or body) as answer:
                return answer.status, (await answer.read()).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"InfluxDB {self.server.url}: {_cause(error)}") from error

    async def close(self) -> None:
        """Release the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._writer is not None:
            await self._writer.close()  # type: ignore[no-untyped-call]
            self._writer = None


def _authorization(server: Server) -> dict[str, str]:
    if not server.token:
        return {}
    if server.api == "v1" and ":" in server.token:
        return {"Authorization": "Basic " + base64.b64encode(server.token.encode()).decode()}
    return {"Authorization": f"{'Bearer' if server.api == 'v3' else 'Token'} {server.token}"}


def _text(body: Any) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _reason(text: str) -> str:
    """Return the server's own words: v1 says `error`, v2 `message`, v3 `error` and `error_message` of each line."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        text = str(document.get("error") or document.get("message") or text)
        lines = document.get("data")
        for line in lines if isinstance(lines, list) else [lines]:
            if isinstance(line, dict) and line.get("error_message"):
                text = f"{text}: {line['error_message']}"
    return " ".join(text.split())[:_TEXT]
