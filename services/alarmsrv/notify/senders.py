"""The three ways out. Each sends one message and returns when the other side has taken it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import socket
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import aiomqtt
import aiosmtplib
import orjson

from libs.clock import now_ms
from libs.errors import ConfigurationError, Problem, VoltageError
from services.alarmsrv.notify.messages import Message
from services.alarmsrv.notify.settings import EmailSettings, MqttSettings, NotificationSettings, WebhookSettings

_PAHO: Final = logging.getLogger("services.alarmsrv.paho")
GONE: Final = 410
LONGEST_PAUSE_S: Final = 3600.0


class AgainError(VoltageError):
    """It did not arrive, and may next time."""

    def __init__(self, message: str, after_s: float = 0) -> None:
        """Keep how long the other side wants to be left alone."""
        super().__init__(message)
        self.after_s = after_s


class NeverError(VoltageError):
    """It will not arrive, however often it is sent."""


class Sender(Protocol):
    """One way out."""

    async def send(self, message: Message, place: str) -> None:
        """Send a message.

        Raises:
            AgainError: it may arrive next time.
            NeverError: it will not.
        """


def reason_of(error: BaseException, timeout_s: float) -> str:
    """Say why a connection failed as people say it; libraries say it around, with what they were given."""
    chain: list[BaseException] = []
    look: BaseException | None = error
    while look is not None and look not in chain:
        chain.append(look)
        look = (
            getattr(look, "os_error", None)
            or getattr(look, "certificate_error", None)
            or look.__cause__
            or look.__context__
        )
    for cause in chain:
        # aiohttp has an error of its own of that kind, around the one that says why.
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_message"):
            return f"its certificate is refused: {cause.verify_message}"
        if isinstance(cause, socket.gaierror):
            return cause.strerror or "its name is not known"
        if isinstance(cause, TimeoutError):
            return f"no answer within {timeout_s:g} s"
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno:
            return os.strerror(cause.errno)
    return str(error) or type(error).__name__


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name.

    Raises:
        ConfigurationError: the file can't be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError([Problem(str(ca_file), str(error))]) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Email:
    """SMTP (RFC 5321), encrypted unless the settings say otherwise; what can't be encrypted is not sent."""

    def __init__(self, settings: EmailSettings) -> None:
        """Keep the settings; nothing connects yet."""
        self._settings = settings
        self._tls = tls_context(settings.ca_file) if settings.security != "none" else None

    async def send(self, message: Message, place: str) -> None:
        """Hand it to the mail server. The id is the Message-ID, so a mailbox can drop what came twice."""
        settings = self._settings
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = settings.sender, place, message.subject
        mail["Date"] = formatdate(localtime=False)
        mail["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        try:
            await aiosmtplib.send(
                mail,
                hostname=settings.host,
                port=settings.used_port,
                username=settings.username,
                password=settings.password.get_secret_value() if settings.password else None,
                use_tls=settings.security == "tls",
                start_tls=settings.security == "starttls",
                tls_context=self._tls,
                timeout=settings.timeout_s,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            said = "; ".join(f"{refused.code} {refused.message}" for refused in error.recipients)
            raise (NeverError if all(code >= 500 for code in codes) else AgainError)(f"refused: {said}") from None
        except aiosmtplib.SMTPDataError as error:
            raise (NeverError if error.code >= 500 else AgainError)(f"refused: {error.code} {error.message}") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise AgainError(f"{settings.host}:{settings.used_port}: {reason_of(error, settings.timeout_s)}") from None


def sign(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """Return a signature as the Standard Webhooks specification has it: HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class Webhook:
    """POST of a JSON document, signed; anything but 2xx is a failure, 410 an end."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Keep the settings; nothing connects yet."""
        self._settings = settings
        self._tls = tls_context(settings.ca_file) if settings.url.startswith("https:") else False
        # What follows the host may be a secret.
        self._address = "/".join(settings.url.split("/", 3)[:3])

    async def send(self, message: Message, place: str) -> None:
        """Post it."""
        del place
        settings = self._settings
        body, timestamp = orjson.dumps(message.document), now_ms() // 1000
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(sign(key, message.id, timestamp, body) for key in settings.keys),
        }
        timeout = aiohttp.ClientTimeout(total=settings.timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    settings.url, data=body, headers=headers, allow_redirects=False, ssl=self._tls or True
                ) as answer,
            ):
                status, pause = answer.status, answer.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AgainError(f"{self._address}: {reason_of(error, settings.timeout_s)}") from None
        if status == GONE:
            raise NeverError(f"{self._address} answered 410: it wants no more")
        if not 200 <= status < 300:
            after_s = min(float(pause), LONGEST_PAUSE_S) if pause.isdecimal() else 0
            raise AgainError(f"{self._address} answered {status}", after_s)


class Mqtt:
    """One QoS 1 message in a session of its own: alarms are rare, and a broker that went shows at once."""

    def __init__(self, settings: MqttSettings) -> None:
        """Keep the settings; nothing connects yet."""
        self._settings = settings
        self._tls = tls_context(settings.ca_file) if settings.tls else None

    async def send(self, message: Message, place: str) -> None:
        """Publish it; the broker has acknowledged when this returns."""
        settings = self._settings
        payload = orjson.dumps({"id": message.id, **message.document})
        try:
            async with aiomqtt.Client(
                settings.host,
                settings.port or (8883 if settings.tls else 1883),
                username=settings.username,
                password=settings.password.get_secret_value() if settings.password else None,
                timeout=settings.timeout_s,
                tls_context=self._tls,
                logger=_PAHO,
            ) as client:
                await client.publish(place, payload, qos=1)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise AgainError(f"{settings.host}: {reason_of(error, settings.timeout_s)}") from None


def senders_of(settings: NotificationSettings) -> dict[str, Sender]:
    """Return the ways out that are configured: `email`, `mqtt`, and `webhook:{name}` for each.

    Raises:
        ConfigurationError: an authority's file can't be read.
    """
    found: dict[str, Sender] = {}
    if settings.email:
        found["email"] = Email(settings.email)
    if settings.mqtt:
        found["mqtt"] = Mqtt(settings.mqtt)
    for name, webhook in settings.webhooks.items():
        found[f"webhook:{name}"] = Webhook(webhook)
    return found
