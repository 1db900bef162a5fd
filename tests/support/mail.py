"""A real SMTP server on loopback: aiosmtpd, in the test's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.servers import free_port


class Mail(NamedTuple):
    """A mail that was taken: for whom, what it says, and whether the connection was encrypted."""

    to: str
    message: EmailMessage
    encrypted: bool
    user: str | None


class MailServer:
    """Takes mail; `refuse` and `busy` hold recipients it answers 550 and 451 for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mails: list[Mail] = []
        self.refuse: set[str] = set()
        self.busy: set[str] = set()

    def of(self, recipient: str) -> list[EmailMessage]:
        """Return what a recipient got."""
        return [mail.message for mail in self.mails if mail.to == recipient]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        del server, session, options
        if address in self.refuse:
            return "550 no such mailbox"
        if address in self.busy:
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        del server
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, _class=EmailMessage, policy=policy.default)
        user = session.auth_data if isinstance(session.auth_data, str) else None
        self.mails += [Mail(to, message, session.ssl is not None, user) for to in envelope.rcpt_tos]
        return "250 taken"


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None, **users: str) -> AsyncIterator[MailServer]:
    """Run a mail server until the block ends; with `tls` it wants STARTTLS, with users a log-in."""
    peer = MailServer(free_port())

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        name = data.login.decode()
        known = users.get(name) == data.password.decode()
        return AuthResult(success=known, auth_data=name)

    def session() -> SMTP:
        return SMTP(
            peer, tls_context=tls, require_starttls=tls is not None, authenticator=authenticate if users else None,
            auth_required=bool(users), hostname="localhost", loop=asyncio.get_running_loop(),
        )  # fmt: skip

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", peer.port)
    try:
        yield peer
    finally:
        server.close()
        await server.wait_closed()
