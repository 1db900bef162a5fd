"""API tokens: who is calling and what the caller may do.

A token is a JWT (RFC 7519) signed with HS256. All services of a site verify it
with one key, so the gateway passes a caller's token on as it came.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import jwt

from libs.config.settings import Settings
from libs.errors import UnauthorizedError

ALGORITHM: Final = "HS256"
KEY_FILE: Final = "token.key"


class Role(StrEnum):
    """What a user may do; each role may do all that those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Say whether this role may do what the other may."""
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {role: rank for rank, role in enumerate(Role)}


class User(NamedTuple):
    """The token's user."""

    name: str
    role: Role


def issue(key: str, user: str, role: Role, ttl_s: int) -> str:
    """Return a token for a user that ends after `ttl_s` seconds."""
    now = int(time.time())
    claims = {"sub": user, "role": role.value, "iat": now, "exp": now + ttl_s, "jti": uuid.uuid4().hex}
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def verify(key: str, token: str) -> User:
    """Return the user of a token.

    Raises:
        UnauthorizedError: it is not ours, altered, or has ended.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            # After a step back of the clock a token of a moment ago is still good.
            options={"require": ["exp", "sub", "role"], "verify_iat": False},
        )
        return User(claims["sub"], Role(claims["role"]))
    except jwt.ExpiredSignatureError:
        raise UnauthorizedError("the token has expired") from None
    except (jwt.InvalidTokenError, ValueError):
        raise UnauthorizedError("the token is not valid") from None


def bearer(header: str | None) -> str:
    """Return the token of an Authorization header.

    Raises:
        UnauthorizedError: there is none.
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("send a token as: Authorization: Bearer <token>")
    return token.strip()


def signing_key(settings: Settings) -> str:
    """Return the site's key: the configured one, else the data directory's, made on first use."""
    if settings.token.key is not None:
        return settings.token.key.get_secret_value()
    path = settings.data_dir / KEY_FILE
    if not path.exists():
        _create(path)
    return path.read_text(encoding="ascii").strip()


def _create(path: Path) -> None:
    """Write a new key, readable by the owner only.

    Several services may start at once: each writes a file of its own, and only
    the first link to the final name succeeds, so that all end with one key.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(own)
    except FileExistsError:
        pass
    finally:
        own.unlink()
