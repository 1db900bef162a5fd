"""Bodies, queries and replies of rulesrv's routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from libs.definitions import Definition
from libs.http import PageQuery
from libs.validation import Id, Model, Ref, WatchedRef
from services.rulesrv.conditions import MAX_NESTING, Conditions

Level = Literal["Critical", "Major", "Minor", "Warning", "Info"]
Channel = Annotated[int, Field(ge=1, le=999_999_999)]


class AlarmParams(Model):
    """The alarm a rule raises; it returns when the rule's condition ends."""

    title: str = Field(min_length=1, max_length=256)
    level: Level = "Warning"
    description: str | None = Field(None, max_length=1024)
    source: Ref | None = Field(None, description="without it the rule's first point")
    ack_required: bool | None = None


class CommandParams(Model):
    """The command a rule sends: to a `target`, or to channel, type and point."""

    target: Ref | None = None
    channel: Channel | None = None
    type: Literal["A", "C"] | None = None
    point: Channel | None = None
    value: float
    ttl_ms: int | None = Field(None, ge=1, le=600_000)
    priority: int | None = Field(None, ge=0, le=100)
    verify: bool | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        parts = [self.channel, self.type, self.point]
        if self.target is None and None in parts:
            raise ValueError("give target, or channel, type and point")
        if self.target is not None and parts != [None, None, None]:
            raise ValueError("give target, or channel, type and point, not both")
        return self


class PublishParams(Model):
    """What a rule publishes on rulesrv:published:{topic}."""

    topic: Id
    message: str | None = Field(None, max_length=1024)
    payload: Any = None


class CreateAlarm(Model):
    """Raise an alarm."""

    type: Literal["create_alarm"]
    params: AlarmParams


class Command(Model):
    """Command a device. Every input must be good, unless the rule says `on_bad: last`."""

    type: Literal["command"]
    params: CommandParams


class Publish(Model):
    """Publish a message."""

    type: Literal["publish"]
    params: PublishParams


def _type(action: Any) -> str:
    """Return the tag of an action; tags in angle brackets are left out of paths."""
    kind = action.get("type") if isinstance(action, dict) else getattr(action, "type", None)
    return f"<{kind}>"


Action = Annotated[
    Annotated[CreateAlarm, Tag("<create_alarm>")]
    | Annotated[Command, Tag("<command>")]
    | Annotated[Publish, Tag("<publish>")],
    Discriminator(_type),
]


class Rule(Definition):
    """When the conditions hold, the actions run once; they re-arm when the conditions end."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = Field(None, max_length=1024)
    conditions: Conditions = Field(description="a list, of which all must hold, or a tree of all, any, not")
    actions: list[Action] = Field([], max_length=16)
    enabled: bool = True
    priority: int = Field(0, ge=-1000, le=1000)
    cooldown_ms: int = Field(0, ge=0, le=86_400_000)
    on_bad: Literal["hold", "last"] | None = Field(None, description="last: decide with the last good values")
    tags: list[str] | None = None

    @field_validator("conditions", mode="before")
    @classmethod
    def _bounded(cls, conditions: Any) -> Any:
        """Refuse deep trees by name, before anything walks them."""
        layer = [conditions]
        for _ in range(MAX_NESTING):
            layer = [inner for node in layer for inner in _below(node)]
            if not layer:
                return conditions
        raise ValueError(f"nested deeper than {MAX_NESTING}")


def _below(node: Any) -> list[Any]:
    """Return the nodes directly under one of a tree."""
    if isinstance(node, list):
        return node
    if not isinstance(node, dict):
        return []
    below = [node[name] for name in ("all", "any") if isinstance(node.get(name), list)]
    return [inner for items in below for inner in items] + ([node["not"]] if "not" in node else [])


class Simulation(Model):
    """Values to evaluate with instead of the present ones."""

    values: dict[WatchedRef, float | str] = Field({}, max_length=1000)


class FiringQuery(PageQuery):
    """Which firings."""

    rule: Id | None = None
    event: Literal["fired", "cleared"] | None = None
