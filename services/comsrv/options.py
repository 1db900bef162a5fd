"""How points want to be commanded, and how a channel keeps its device safe.

The options of a point are columns of control.csv and adjustment.csv; Redis checks those it
can (`comsrv/limits.lua`), comsrv does the rest.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from libs import expression
from libs.errors import InvalidError
from libs.validation import Model
from services.comsrv.fields import Integer, Number, Truth, number

MAX_DAY_MS: Final = 86_400_000
# Members of a point's `command` in Redis that are made of the others.
FOR_REDIS: Final = frozenset(("interlock_program", "verify", "text_bytes", "text_ascii"))
# What is about numbers, or about holding a point: a text is written once.
NOT_FOR_TEXTS: Final = (
    "step", "allowed", "fallback", "lease_ms", "refresh_ms", "watch_ms", "pulse_ms", "pair", "verify_tolerance",
)  # fmt: skip


def _numbers(value: Any) -> Any:
    """Read `0|50|100` from a cell."""
    if isinstance(value, str):
        return tuple(number(part) for part in value.split("|") if part.strip())
    return value


class CommandOptions(Model):
    """What a C or A point asks of whoever commands it; everything is optional."""

    step: Number | None = Field(None, gt=0, description="values are min (or 0) plus whole steps")
    allowed: Annotated[tuple[float, ...] | None, BeforeValidator(_numbers)] = Field(
        None, min_length=1, max_length=100, description="the only values, as in 0|50|100"
    )
    min_interval_ms: Integer | None = Field(None, ge=0, le=MAX_DAY_MS, description="least time between two writes")
    writes_per_day: Integer | None = Field(None, ge=1, le=1_000_000, description="budget of writes a UTC day")
    select: Truth | None = Field(None, description="must be selected before it is operated")
    interlock: str | None = Field(None, min_length=1, max_length=1024, description="expression that must not be 0")
    latest_only: Truth | None = Field(None, description="a newer command supersedes one that still waits")
    fallback: Number | None = Field(None, description="value written when a hold ends")
    lease_ms: Integer | None = Field(None, ge=1, le=MAX_DAY_MS, description="each command holds the point so long")
    refresh_ms: Integer | None = Field(None, ge=50, le=MAX_DAY_MS, description="a held value is written this often")
    watch_ms: Integer | None = Field(None, ge=50, le=MAX_DAY_MS, description="another master is looked for this often")
    pulse_ms: Integer | None = Field(None, ge=10, le=10_000, description="1 is written, then 0 after this time")
    pair: Integer | None = Field(None, ge=1, description="C point that is pulsed for the value 0")
    verify_delay_ms: Integer | None = Field(None, ge=0, le=60_000, description="wait before the read-back")
    verify_tolerance: Number | None = Field(None, ge=0, description="read-back may differ by so much")
    idempotent: Truth | None = Field(None, description="may be sent again when the answer was lost")

    @field_validator("interlock")
    @classmethod
    def _parses(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                expression.parse(text)
            except InvalidError as error:
                raise ValueError(str(error)) from None
        return text

    @model_validator(mode="after")
    def _sense(self) -> CommandOptions:
        found = []
        if self.pair is not None and self.pulse_ms is None:
            found.append("pair needs pulse_ms")
        if self.refresh_ms is not None and self.lease_ms is None:
            found.append("refresh_ms needs lease_ms: without an end a value would be written for ever")
        if found:
            raise ValueError("; ".join(found))
        return self

    def for_redis(self, *, verifiable: bool) -> dict[str, Any]:
        """Return what Redis needs beside the options; `verifiable` says that the value can be read back."""
        found: dict[str, Any] = {} if verifiable else {"verify": False}
        return found if self.interlock is None else found | {"interlock_program": expression.parse(self.interlock)}


OPTION_COLUMNS: Final = tuple(CommandOptions.model_fields)


class Heartbeat(Model):
    """A point that is written only while data flow, so that the device's own watchdog acts when they don't."""

    type: Literal["C", "A"] = "A"
    point: int = Field(ge=1)
    mode: Literal["toggle", "counter"] = "counter"
    interval_ms: int = Field(1000, ge=50, le=600_000)
    highest: int = Field(65_535, ge=1, le=2**31 - 1, description="a counter goes on with 0 after this")


class CommandSettings(Model):
    """How a channel keeps its device safe."""

    heartbeat: Heartbeat | None = None
    failsafe_s: float = Field(
        30, ge=1, le=86_400, description="holds end with their fall-back when Redis is away longer"
    )
    on_stop: Literal["keep", "safe"] = Field("keep", description="safe: fall-backs are written when the channel stops")
