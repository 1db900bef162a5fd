"""Bodies and replies of the gateway's own routes."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from libs.http import Role
from libs.validation import Id, Model
from services.gateway.accounts import Account

# NIST SP 800-63B-4: length counts, composition rules do not; 15 where it is the only factor is
# advised, 12 keeps a panel usable and is far out of reach of 12 tries a minute.
Password = Annotated[str, Field(min_length=12, max_length=256)]


class Login(Model):
    """A name and a password, or a one-time link's token."""

    name: Id | None = None
    password: str | None = Field(None, max_length=256)
    link: str | None = Field(None, max_length=200)
    cookie: bool = Field(False, description="keep the refresh token in a cookie no script can read (the page)")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.link is None) == (self.name is None or self.password is None):
            raise ValueError("give name and password, or link")
        return self


class Refresh(Model):
    """The refresh token; the page's comes in its cookie."""

    refresh_token: str | None = Field(None, max_length=200)
    cookie: bool = False


class Me(Model):
    """Who is calling."""

    name: str
    role: Role
    has_password: bool | None = Field(description="null for a token made on the command line")


class Session(Model):
    """A log-in: the access token to send with each call, the refresh token to get the next one."""

    access_token: str
    expires_in_s: int
    refresh_token: str | None
    user: Me


class ApplyFiles(Model):
    """Why the files are applied."""

    reason: str | None = Field(None, max_length=500)


class Rollback(Model):
    """Which version to go back to, and why."""

    version: int | None = Field(None, ge=1, description="without it the one before the last")
    reason: str | None = Field(None, max_length=500)


class NewPassword(Model):
    """One's own new password; the present one proves that it is not somebody at an unlocked screen."""

    password: Password
    current: str | None = Field(None, max_length=256)


class NewUser(Model):
    """A user to create. Without a password, log-in needs a link."""

    name: Id
    role: Role
    password: Password | None = None


class UserChange(Model):
    """What to change of a user."""

    role: Role | None = None
    password: Password | None = None
    disabled: bool | None = None


class UserView(Model):
    """A user, without secrets."""

    name: str
    role: Role
    disabled: bool
    has_password: bool
    created_at_ms: int
    changed_at_ms: int

    @classmethod
    def of(cls, account: Account) -> UserView:
        """Return what may be shown of an account."""
        return cls(
            name=account.name,
            role=account.role,
            disabled=account.disabled,
            has_password=account.password is not None,
            created_at_ms=account.created_at_ms,
            changed_at_ms=account.changed_at_ms,
        )


class Users(Model):
    """All users."""

    items: list[UserView]
    cursor: str | None = None


class Link(Model):
    """A one-time link of a user; `path` goes after the gateway's address."""

    link: str
    path: str
    expires_at_ms: int


class System(Model):
    """What runs here."""

    version: str
    namespace: str
    now_ms: int
    functions: dict[str, Any]
    services: dict[str, str] = Field(description="ok, or what is wrong")
    clients: int = Field(description="of the live stream")
