"""What many routes take: `limit` and `cursor` of lists (`{items, cursor}` out), a span of time, a comment."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from libs.instants import Instant, parse_instant
from libs.validation import Model


class PageQuery(Model):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=1000, description="how many at most")
    cursor: str | None = Field(None, max_length=200, description="from the page before")

    def arguments(self) -> dict[str, Any]:
        """Return what was asked for as a function's document, without what is absent."""
        return self.model_dump(mode="json", exclude_none=True)


class Page(Model):
    """One page of a list; `cursor` is null on the last one."""

    items: list[dict[str, Any]]
    cursor: str | None


class SpanQuery(Model):
    """Of which time."""

    start: Instant = Field(default_factory=lambda: parse_instant("-1d"), description="a day ago where absent")
    end: Instant = Field(default_factory=lambda: parse_instant("now"), description="now where absent")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end <= self.start:
            raise ValueError("start must be before end")
        return self


class Comment(Model):
    """The optional body of an action."""

    comment: str | None = Field(None, max_length=512)
