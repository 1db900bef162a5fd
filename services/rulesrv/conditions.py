"""Condition trees as they come: lists, all, any, not, and leaves that compare a point.

Each node is told apart by its keys first, so that a mistake in a leaf is
reported at the leaf and not once for every kind of node it is not.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from libs.points import QUALITIES, is_quality, is_text_reference
from libs.validation import Model, WatchedRef
from services.rulesrv.sources import WORDS, Source, state_kind
from services.rulesrv.windows import Window

MAX_NESTING: Final = 32
MAX_CONDITIONS: Final = 256
MAX_HOLD_MS: Final = 31 * 86_400_000


def _kind(node: Any) -> str:
    """Return the tag of a node; tags in angle brackets are left out of paths."""
    if isinstance(node, list):
        return "<list>"
    for name in ("all", "any", "not", "time"):
        if name in node if isinstance(node, dict) else hasattr(node, name):
            return f"<{name}>"
    return "<leaf>" if not hasattr(node, "not_") else "<not>"


class OtherPoint(Model):
    """The value of another point, to compare with."""

    source: WatchedRef


Number = int | float
Value = bool | Number | str | list[Number] | list[str] | OtherPoint
Operator = Literal[
    "==", "!=", ">", ">=", "<", "<=", "in", "between", "changed", "rising", "falling", "rate", "quality", "no_data"
]
CHANGES: Final = frozenset(("changed", "rising", "falling"))
COMPARISONS: Final = frozenset(("==", "!=", ">", ">=", "<", "<="))
OF_TEXTS: Final = frozenset(("==", "!=", "in", "changed", "quality", "no_data"))
OF_STATES: Final = frozenset(("==", "!=", "in", "changed"))
HAS_HYSTERESIS: Final = frozenset((">", ">=", "<", "<=", "between", "rate"))


class When(Model):
    """What a count counts: how often the point came to fit it."""

    operator: Literal["==", "!=", ">", ">=", "<", "<="]
    value: Number


class Leaf(Model):
    """One comparison of a point; unknown while the point is missing or not good."""

    source: Source
    operator: Operator
    value: Value | None = None
    for_ms: int | None = Field(None, ge=0, le=MAX_HOLD_MS, description="how long it must hold")
    hysteresis: float | None = Field(None, ge=0, description="how far past the limit it must go to end")
    within_ms: int | None = Field(None, ge=0, le=MAX_HOLD_MS, description="how long changed, rising, falling stay true")
    window_ms: int | None = Field(None, ge=1000, le=MAX_HOLD_MS, description="of rate, or of an aggregate")
    direction: Literal["rising", "falling", "both"] | None = Field(None, description="of rate")
    aggregate: Literal["mean", "min", "max", "count"] | None = Field(None, description="over window_ms")
    when: When | None = Field(None, description="what count counts; without it changes of the value")
    coverage: float | None = Field(None, ge=0, le=1, description="share of the window that must be good; else 0.5")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        wrong = _wrong_value(self) or _wrong_options(self)
        if wrong:
            raise ValueError(wrong)
        return self


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong_value(leaf: Leaf) -> str | None:
    """Return what is wrong with the operator and its value."""
    operator, value, state = leaf.operator, leaf.value, state_kind(leaf.source)
    if operator in CHANGES:
        if value is not None:
            return f"value does not go with operator {operator}"
        if operator != "changed" and (state or is_text_reference(leaf.source)):
            return f"operator {operator} is of numbers only"
        return None
    if value is None:
        return f"value of operator {operator} is missing"
    if state or is_text_reference(leaf.source):
        return _wrong_state(leaf, state) if state else _wrong_text(leaf)
    return _wrong_number(leaf)


def _wrong_number(leaf: Leaf) -> str | None:
    """Return what a point can't be compared with."""
    operator, value = leaf.operator, leaf.value
    numbers = isinstance(value, list) and all(_is_number(item) for item in value)
    other = isinstance(value, OtherPoint) and not is_text_reference(value.source)
    wanted, fits = {
        "between": ("[low, high]", numbers and _is_range(value)),
        "in": ("a list of numbers", numbers and bool(value)),
        "quality": (QUALITIES, is_quality(value)),
        "no_data": ("the milliseconds without data", _is_number(value) and float(str(value)) >= 0),
        "rate": ("the change, above 0", _is_number(value) and float(str(value)) > 0),
    }.get(
        operator, ("a number, true or false, or {source: another reference}", other or isinstance(value, int | float))
    )
    return None if fits else f"value of operator {operator} must be {wanted}"


def _is_range(value: Any) -> bool:
    return len(value) == 2 and value[0] <= value[1]


def _wrong_state(leaf: Leaf, kind: str) -> str | None:
    if leaf.operator not in OF_STATES:
        return f"operator of the state of {kind} must be one of ==, !=, in, changed"
    listed = leaf.value if leaf.operator == "in" and isinstance(leaf.value, list) else [leaf.value]
    if leaf.operator == "in" and not isinstance(leaf.value, list):
        listed = []
    fits = bool(listed) and all(item in WORDS[kind] for item in listed)
    return None if fits else f"value must be {'a list of ' * (leaf.operator == 'in')}{', '.join(WORDS[kind])}"


def _wrong_text(leaf: Leaf) -> str | None:
    """Return what a text point can't be compared with."""
    operator, value = leaf.operator, leaf.value
    if operator not in OF_TEXTS:
        return "operator of a text must be ==, !=, in, changed, quality or no_data"
    other = isinstance(value, OtherPoint) and is_text_reference(value.source)
    texts = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    wanted, fits = {
        "in": ("a list of texts", texts),
        "quality": (QUALITIES, is_quality(value)),
        "no_data": ("the milliseconds without data", _is_number(value)),
    }.get(operator, ("a text, or {source: another text}", other or isinstance(value, str)))
    return None if fits else f"value of operator {operator} of a text must be {wanted}"


def _wrong_options(leaf: Leaf) -> str | None:
    """Return which option does not go with the operator."""
    operator = leaf.operator
    point = state_kind(leaf.source) is None and not is_text_reference(leaf.source)
    problems = {
        "for_ms does not go with a change, which has no duration; give within_ms": operator in CHANGES and leaf.for_ms,
        "within_ms goes with changed, rising and falling only": leaf.within_ms and operator not in CHANGES,
        "direction goes with rate only": leaf.direction and operator != "rate",
        "window_ms goes with rate and with an aggregate only": (
            leaf.window_ms and operator != "rate" and leaf.aggregate is None
        ),
        "hysteresis goes with >, >=, <, <=, between and rate only": (
            leaf.hysteresis is not None and operator not in HAS_HYSTERESIS
        ),
        "an aggregate is over a window: give window_ms": leaf.aggregate and leaf.window_ms is None,
        "an aggregate is of numbers only": leaf.aggregate and not point,
        "operator of an aggregate must be one of ==, !=, >, >=, <, <=, in, between": (
            leaf.aggregate and operator not in COMPARISONS | {"in", "between"}
        ),
        "when goes with count only": leaf.when is not None and leaf.aggregate != "count",
        "coverage goes with an aggregate only": leaf.coverage is not None and leaf.aggregate is None,
    }
    return next((text for text, wrong in problems.items() if wrong), None)


class Time(Model):
    """True while a window of time is open; unknown where no table says what the wall clock shows."""

    time: Window


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
    | Annotated[Time, Tag("<time>")]
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
    | Annotated[Time, Tag("<time>")]
    | Annotated[Leaf, Tag("<leaf>")],
    Discriminator(_kind),
]

for _model in (All, AnyOf, Not):
    _model.model_rebuild()
