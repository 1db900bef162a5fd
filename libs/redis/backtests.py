"""Backtests: one definition over the recorded past, as a job of hissrv that any service may ask for."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import Field, model_validator

from libs import clock
from libs.definitions import Definition, said_of
from libs.errors import InvalidError
from libs.instants import Instant
from libs.redis import jobs
from libs.redis.definitions import Definitions
from libs.validation import Model


class Span(Model):
    """A time of the recorded past."""

    start: Instant
    end: Instant | None = Field(None, description="now when absent")

    @model_validator(mode="after")
    def _in_order(self) -> Span:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self

    def document(self) -> dict[str, Any]:
        """Return it as a job takes it."""
        return {"start": self.start, "end": clock.now_ms() if self.end is None else self.end}


async def submit(
    kind: Literal["rule", "alarm"], definitions: Definitions, name: str, span: Span, changed: Definition | None
) -> bytes:
    """Queue a backtest of a definition as it is sent, else as it is stored; returns the job.

    Raises:
        NotFoundError: none is sent, and none is stored.
        InvalidError: the one that is sent has another id.
    """
    if changed is None:
        said = said_of(orjson.loads(await definitions.get(name)))
    elif changed.id not in {None, name}:
        raise InvalidError(f"id {changed.id} is not the path's {name}")
    else:
        said = {**changed.said(), "id": name}
    body = span.document() | {"of": kind, "definition": said}
    return await jobs.submit(definitions.functions, "backtest", body)
