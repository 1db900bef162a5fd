"""What a device may do instead of what was asked: the errors a plugin raises.

They are part of the contract (`services.comsrv.contract`), which names them too.
"""

from __future__ import annotations

from typing import Final

from libs.errors import VoltageError

ILLEGAL_ADDRESS: Final = 2


def refusal(exception_code: int) -> str:
    """Return what a point is whose device answers with an exception."""
    return "bad:illegal_address" if exception_code == ILLEGAL_ADDRESS else f"bad:exception_{exception_code}"


class DeviceError(VoltageError):
    """A device did not do what was asked. `quality` is what its points become.

    `sent` says that the request's bytes may have left, so nobody knows what the device did.
    """

    quality: str = "bad:device"
    sent: bool = True


class NotConnectedError(DeviceError):
    """No connection: refused, unreachable or lost."""

    quality = "bad:not_connected"

    def __init__(self, message: str, *, sent: bool = False, retry_after_ms: int | None = None) -> None:
        """Keep whether the connection was lost with a request under way.

        `retry_after_ms` is how long to wait before `connect` is worth another try, from
        a plugin that counts failures itself because several channels share its link.
        """
        super().__init__(message)
        self.sent = sent
        self.retry_after_ms = retry_after_ms


class NoAnswerError(DeviceError):
    """The device did not answer in time; the connection may be well."""

    quality = "bad:timeout"


class UnreachableError(NoAnswerError):
    """A gateway answered that the unit does not: its exceptions 10 and 11."""

    def __init__(self, exception_code: int, message: str) -> None:
        """Keep the code; it is part of the quality."""
        super().__init__(message)
        self.exception_code = exception_code
        self.quality = refusal(exception_code)


class MalformedError(DeviceError):
    """The device answered something that is no answer to the request."""

    quality = "bad:malformed"


class RefusedError(DeviceError):
    """The device answered with an exception code: an answer, not a disconnect."""

    def __init__(self, exception_code: int, message: str) -> None:
        """Keep the code; it is part of the quality."""
        super().__init__(message)
        self.exception_code = exception_code
        self.quality = refusal(exception_code)
