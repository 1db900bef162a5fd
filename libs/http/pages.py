"""Lists: `{items, cursor}` out, `limit` and `cursor` in, the same on every route."""

from __future__ import annotations

from typing import Any

from pydantic import Field

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


class Comment(Model):
    """The optional body of an action."""

    comment: str | None = Field(None, max_length=512)
