"""The one error tree of the product.

    VoltageError
    ├── InvalidError      INVALID    422 (400 where the text can't be parsed)
    ├── NotFoundError     NOTFOUND   404
    ├── ConflictError     CONFLICT   409
    ├── StateError        STATE      409
    ├── LimitError        LIMIT      429
    ├── InternalError     INTERNAL   500
    ├── UnavailableError  UNAVAILABLE 503 (Redis, a store or a service is away)
    ├── UnauthorizedError UNAUTHORIZED 401
    ├── ForbiddenError    FORBIDDEN  403
    └── ConfigurationError           exit 78, lists every problem at once

A Redis Function's error starts with one of the first six codes; `libs.redis`
turns it into the class of that code, so a caller never compares error text.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class VoltageError(Exception):
    """Base of every error the product raises on purpose."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500


class InvalidError(VoltageError):
    """The input can't be accepted; `problems` names each field."""

    code = "INVALID"
    status = 422

    def __init__(self, message: str, problems: list[Problem] | None = None) -> None:
        """Keep the message and the list of problems behind it."""
        super().__init__(message)
        self.problems: list[Problem] = problems or []


class NotFoundError(VoltageError):
    """Nothing has that id."""

    code = "NOTFOUND"
    status = 404


class ConflictError(VoltageError):
    """Somebody else holds it, or it exists already."""

    code = "CONFLICT"
    status = 409


class StateError(VoltageError):
    """Not possible in the present state."""

    code = "STATE"
    status = 409


class LimitError(VoltageError):
    """A bound was reached."""

    code = "LIMIT"
    status = 429


class InternalError(VoltageError):
    """A defect of ours."""


class UnavailableError(VoltageError):
    """A dependency (Redis, a store, a service) is away."""

    code = "UNAVAILABLE"
    status = 503


class UnauthorizedError(VoltageError):
    """No valid token."""

    code = "UNAUTHORIZED"
    status = 401


class ForbiddenError(VoltageError):
    """The token's role is too low."""

    code = "FORBIDDEN"
    status = 403


class Problem(NamedTuple):
    """One thing wrong with an input: where it is and what is wrong there.

    `where` is `file:line`, a variable's name or a field's path.
    """

    where: str
    message: str

    def __str__(self) -> str:
        """Render as a person reads it: place, colon, reason."""
        return f"{self.where}: {self.message}"


class ConfigurationError(VoltageError):
    """The configuration has problems; all of them are listed. Exit code 78 (EX_CONFIG)."""

    code = "INVALID"
    status = 422
    exit_code: ClassVar[int] = 78

    def __init__(self, problems: list[Problem]) -> None:
        """Keep every problem; the message lists them one a line."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


CODES: dict[str, type[VoltageError]] = {
    error.code: error
    for error in (
        InvalidError, NotFoundError, ConflictError, StateError, LimitError, InternalError,
        UnavailableError, UnauthorizedError, ForbiddenError,
    )
}  # fmt: skip


def error_of(code: object, text: str) -> VoltageError:
    """Return the error that a service or a function answered; an unknown code is an internal one."""
    return CODES.get(str(code), InternalError)(text)
