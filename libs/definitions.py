"""What every definition (rule, alarm definition, model, template) carries beside what it says.

Its id, and its history in a few fields: version, author, reason, hash and
instants, so that a firing or a transition can name what it came from. They are
set in Redis, by the call that changes it (redis_functions/core/versions.lua).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import orjson
from pydantic import Field, model_validator

from libs.errors import NotFoundError, Problem
from libs.validation import Id, Model

# What the service says of a definition, and no part of what it says itself.
METADATA: Final = frozenset({"version", "author", "reason", "hash", "created_at_ms", "updated_at_ms", "warnings"})
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
    requires_approval: bool | None = Field(None, description="true: a change is proposed, and another person approves")

    def said(self) -> dict[str, Any]:
        """Return what the definition says, without its metadata."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(METADATA))


class WarnedDefinition(Definition):
    """Base of definitions that may name what does not exist yet."""

    warnings: list[str] | None = Field(None, description="set by the service: what it names and does not exist yet")


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


class Change(NamedTuple):
    """Who changes a definition, why, and which version they saw.

    `read` is the hash of the document that the reason came with: a reason that was read
    is that version's, not this one's.
    """

    by: str
    reason: str | None = None
    version: int | None = None
    read: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as the functions take it."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Proposal(Model):
    """A change for a second person: what a definition shall say, the version that shall come back, or that it goes."""

    definition: Any = None
    version: int | None = Field(None, ge=0, description="the version to bring back")
    delete: bool = False
    reason: str | None = Field(None, max_length=500)
    ttl_ms: int | None = Field(None, ge=1000, le=365 * 86_400_000, description="7 days without it")

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if [self.definition is not None, self.version is not None, self.delete].count(True) != 1:
            raise ValueError("give one of definition, version and delete: true")
        return self

    def asked(self, definition_id: str) -> dict[str, Any]:
        """Return it as the function takes it; the definition goes as a text, so that it is kept as it is."""
        asked = self.model_dump(mode="json", exclude_none=True, exclude={"definition"})
        if self.definition is None:
            return asked
        said = self.definition.said() if isinstance(self.definition, Definition) else self.definition
        return asked | {"definition": orjson.dumps({"id": definition_id, **said}).decode()}


class Call(NamedTuple):
    """A call of a function that changes a definition: what it is about, and where that stands."""

    what: str
    where: str
    function: str
    key: str
    arguments: tuple[dict[str, Any], ...]

    def refused(self, code: str, text: str) -> Problem:
        """Return as people read it that it was refused, and why."""
        reason = f"there is no {text}" if code == NotFoundError.code else text
        return Problem(self.where, f"{self.what}: {reason}")
