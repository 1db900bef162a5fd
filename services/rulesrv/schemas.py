"""Bodies, queries and replies of rulesrv's routes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from libs.definitions import WarnedDefinition
from libs.http import PageQuery
from libs.instants import Instant
from libs.redis.backtests import Span
from libs.validation import Id, Model
from services.rulesrv.actions import Action
from services.rulesrv.conditions import MAX_NESTING, Conditions
from services.rulesrv.sources import Source


class Rule(WarnedDefinition):
    """When the conditions hold, the actions run once; they re-arm when the conditions end."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = Field(None, max_length=2048)
    conditions: Conditions = Field(description="a list, of which all must hold, or a tree of all, any, not")
    actions: list[Action] = Field([], max_length=16)
    enabled: bool = True
    priority: int = Field(0, ge=-1_000_000, le=1_000_000)
    cooldown_ms: int = Field(0, ge=0, le=31 * 86_400_000)
    group: Id | None = Field(None, description="rules of a group are switched together")
    on_bad: Literal["hold", "last"] | None = Field(None, description="last: decide with the last good values")
    tags: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, document: Any) -> Any:
        """Take `rule: {...}`, as the documents write one."""
        if isinstance(document, dict) and document.keys() == {"rule"} and isinstance(document["rule"], dict):
            return document["rule"]
        return document

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
    """Values to evaluate with instead of the present ones, and the instant windows of time are looked at."""

    values: dict[Source, float | str] = Field({}, max_length=1000)
    at_ms: Instant | None = None


class RuleBacktest(Span):
    """Over which time, and with which definition."""

    definition: Rule | None = Field(None, description="instead of the stored one")


class FiringQuery(PageQuery):
    """Which firings."""

    rule: Id | None = None
    event: Literal["fired", "cleared", "resumed"] | None = None
