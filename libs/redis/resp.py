"""A small blocking Redis connection: for probing a server, for `voltage redis`, for a replay's own Redis.

The services use `libs.redis.client`; this one exists because it starts in a few
milliseconds, gives replies as the server sent them, and needs no redis-cli.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from libs.errors import UnavailableError, VoltageError

DEFAULT_PORT: Final = 6379
CHUNK: Final = 65536
_INCOMPLETE: Final = object()


class ReplyError(VoltageError):
    """What the server answered with a minus; the text is the server's."""


class Connection:
    """One connection, used by one thread; a context manager."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        """Connect and log in.

        Raises:
            UnavailableError: nobody answers there, or not as a Redis does.
            ReplyError: the server refuses the user or the database.
        """
        self._timeout_s = timeout_s
        self.where, user, password, database = self._open(url, timeout_s)
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_INCOMPLETE)
        try:
            if password is not None:
                self.call("AUTH", *((user, password) if user else (password,)))
            if database:
                self.call("SELECT", database)
        except VoltageError:
            self.close()
            raise

    def _open(self, url: str, timeout_s: float) -> tuple[str, str, str | None, str]:
        parts = urlsplit(url)
        user = unquote(parts.username or "")
        password = None if parts.password is None else unquote(parts.password)
        query = parse_qs(parts.query)
        try:
            if parts.scheme == "unix":
                where = parts.path
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(timeout_s)
                try:
                    self._socket.connect(where)
                except OSError:
                    self._socket.close()
                    raise
                return where, user, password, query.get("db", [""])[0]
            where = f"{parts.hostname}:{parts.port or DEFAULT_PORT}"
            if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
                raise UnavailableError(f"not the address of a Redis: {parts.scheme}://{where}")
            self._socket = socket.create_connection((parts.hostname, parts.port or DEFAULT_PORT), timeout_s)
            if parts.scheme == "rediss":
                context = ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=parts.hostname)
        except OSError as error:
            raise UnavailableError(f"Redis at {where} is away: {error.strerror or error}") from None
        return where, user, password, parts.path.strip("/") or query.get("db", [""])[0]

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send one command and return its reply: bytes, int, list or None.

        Raises:
            UnavailableError: the connection broke or the answer is late.
            ReplyError: the server's error.
        """
        packed = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub says a tuple of one
        try:
            self._socket.sendall(packed)
        except OSError as error:
            raise self._away(error) from None
        reply = self.next(self._timeout_s)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def next(self, timeout_s: float | None) -> Any:
        """Return the next reply, or what a subscription brings; None waits for ever.

        Raises:
            UnavailableError: the connection broke or the answer is late.
        """
        try:
            self._socket.settimeout(timeout_s)
            reply = self._reader.gets()
            while reply is _INCOMPLETE:
                chunk = self._socket.recv(CHUNK)
                if not chunk:
                    raise UnavailableError(f"Redis at {self.where} closed the connection")
                self._reader.feed(chunk)
                reply = self._reader.gets()
        except OSError as error:
            raise self._away(error) from None
        except hiredis.ProtocolError:
            raise UnavailableError(f"what answers at {self.where} is no Redis") from None
        return reply

    def _away(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"Redis at {self.where} does not answer: {error.strerror or error}")

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def information(connection: Connection, section: str) -> dict[str, str]:
    """Return a section of INFO."""
    text: bytes = connection.call("INFO", section)
    pairs = (line.partition(":") for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}
