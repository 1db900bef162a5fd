"""What every definition (rule, alarm definition, model, template) carries beside what it says.

Its id, and its history in a few fields: version, author, reason, hash and
instants, so that a firing or a transition can name what it came from.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import Field

from libs.validation import Id, Model

METADATA: Final = frozenset({"version", "author", "reason", "hash", "created_at_ms", "updated_at_ms"})
HASH_DIGITS: Final = 16


class Definition(Model):
    """Base of all definitions.

    A document that was read may be sent back as it is: what the service itself
    sets is taken and ignored, except that a version must still be the stored one.
    """

    id: Id | None = Field(None, description="made when absent")
    version: int | None = Field(None, description="counted by the service; when sent it must be the stored one")
    author: str | None = Field(None, description="set by the service")
    reason: str | None = Field(None, max_length=500, description="why it was made or changed")
    hash: str | None = Field(None, description="set by the service")
    created_at_ms: int | None = Field(None, description="set by the service")
    updated_at_ms: int | None = Field(None, description="set by the service")

    def said(self) -> dict[str, Any]:
        """Return what the definition says, without its metadata."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(METADATA))


def said_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stored document says, without its metadata."""
    return {name: value for name, value in document.items() if name not in METADATA}


def digest(said: Mapping[str, Any]) -> str:
    """Return the hash of what a definition says; the order of members does not matter."""
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:HASH_DIGITS]


def new_id() -> str:
    """Return an id nobody has."""
    return uuid.uuid4().hex[:HASH_DIGITS]


def stamp(
    said: Mapping[str, Any], before: Mapping[str, Any] | None, *, author: str, reason: str | None, now_ms: int
) -> dict[str, Any]:
    """Return the document to store: what it says, and who changed it when, from which version."""
    document = {
        **said,
        "version": int((before or {}).get("version") or 0) + 1,
        "author": author,
        "hash": digest(said),
        "created_at_ms": (before or {}).get("created_at_ms") or now_ms,
        "updated_at_ms": now_ms,
    }
    return document | ({"reason": reason} if reason else {})
