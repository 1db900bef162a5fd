"""Condition trees as they come: lists, all, any, not, and leaves that compare a point.

Each node is told apart by its keys first, so that a mistake in a leaf is
reported at the leaf and not once for every kind of node it is not.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from libs.points import is_text_reference
from libs.validation import Model, WatchedRef

MAX_NESTING: Final = 32
MAX_CONDITIONS: Final = 256
MAX_HOLD_MS: Final = 31 * 86_400_000


def _kind(node: Any) -> str:
    """Return the tag of a node; tags in angle brackets are left out of paths."""
    if isinstance(node, list):
        return "<list>"
    for name in ("all", "any", "not"):
        if name in node if isinstance(node, dict) else hasattr(node, name):
            return f"<{name}>"
    return "<leaf>" if not hasattr(node, "not_") else "<not>"


class OtherPoint(Model):
    """The value of another point, to compare with."""

    source: WatchedRef


Number = int | float
Value = bool | Number | str | list[Number] | OtherPoint


class Leaf(Model):
    """One comparison of a point; unknown while the point is missing or not good."""

    source: WatchedRef
    operator: Literal["==", "!=", ">", ">=", "<", "<=", "in", "between", "quality", "no_data"]
    value: Value
    for_ms: int | None = Field(None, ge=0, le=MAX_HOLD_MS, description="how long it must hold")
    hysteresis: float | None = Field(None, ge=0, description="how far past the limit it must go to end")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        value = self.value
        if is_text_reference(self.source):
            self._fits_text()
            return self
        number = isinstance(value, int | float) and not isinstance(value, bool)
        wrong = ""
        if self.operator == "between":
            wrong = "" if isinstance(value, list) and len(value) == 2 and value[0] <= value[1] else "[low, high]"
        elif self.operator == "in":
            wrong = "" if isinstance(value, list) and value else "a list of numbers"
        elif self.operator == "quality":
            wrong = "" if isinstance(value, str) else "a quality such as good, bad or bad:stale"
        elif self.operator == "no_data":
            wrong = "" if number and float(str(value)) >= 0 else "the milliseconds without data"
        elif isinstance(value, list | str) or (isinstance(value, OtherPoint) and is_text_reference(value.source)):
            wrong = "a number, true or false, or {source: another reference}"
        if wrong:
            raise ValueError(f"value of operator {self.operator} must be {wrong}")
        return self

    def _fits_text(self) -> None:
        """Refuse what a text point can't be compared with."""
        value = self.value
        if self.operator not in {"==", "!=", "quality", "no_data"}:
            raise ValueError("operator of a text must be ==, !=, quality or no_data")
        wanted = int | float if self.operator == "no_data" else str
        other = isinstance(value, OtherPoint) and is_text_reference(value.source) and self.operator in {"==", "!="}
        if not other and (isinstance(value, bool) or not isinstance(value, wanted)):
            raise ValueError(f"value of operator {self.operator} of a text must be {_OF_TEXTS[self.operator]}")


_OF_TEXTS: Final = {
    "==": "a text, or {source: another text}",
    "!=": "a text, or {source: another text}",
    "quality": "a quality such as good, bad or bad:stale",
    "no_data": "the milliseconds without data",
}


class All(Model):
    """True when every condition is."""

    all: list[Condition] = Field(min_length=1, max_length=MAX_CONDITIONS)


class AnyOf(Model):
    """True when one condition is."""

    any: list[Condition] = Field(min_length=1, max_length=MAX_CONDITIONS)


class Not(Model):
    """True when the condition is false; unknown stays unknown."""

    not_: Condition = Field(alias="not")


Condition = Annotated[
    Annotated[All, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[Not, Tag("<not>")]
    | Annotated[Leaf, Tag("<leaf>")],
    Discriminator(_kind),
]
ConditionList = Annotated[list[Condition], Field(min_length=1, max_length=MAX_CONDITIONS)]
"""All must hold."""

Conditions = Annotated[
    Annotated[ConditionList, Tag("<list>")]
    | Annotated[All, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[Not, Tag("<not>")]
    | Annotated[Leaf, Tag("<leaf>")],
    Discriminator(_kind),
]

for _model in (All, AnyOf, Not):
    _model.model_rebuild()
