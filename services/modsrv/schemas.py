"""Bodies, queries and replies of modsrv's routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from libs.definitions import Definition
from libs.http import PageQuery
from libs.validation import Id, Model, worded

MAX_POINT = 999_999_999
Point = Annotated[int, Field(ge=1, le=MAX_POINT)]
PointText = Annotated[
    str,
    StringConstraints(
        pattern=worded(r"^((comsrv:[1-9][0-9]{0,8}:)?[TSCA]:)?[1-9][0-9]{0,8}$", "a point as 7, T:7 or comsrv:1001:T:7")
    ),
]
Offset = Annotated[int, Field(ge=-MAX_POINT, le=MAX_POINT)] | Literal["auto"]
# Told apart by type, so that a wrong one gets one message and not one a member.
PointAddress = Annotated[
    Annotated[Point, Tag("<number>")] | Annotated[PointText, Tag("<text>")],
    Discriminator(lambda value: "<text>" if isinstance(value, str) else "<number>"),
]
Mapped = dict[Id, PointAddress]


class TemplatePoint(Model):
    """A point every device of the template has."""

    base_id: Point
    kind: Literal["T", "S", "C", "A"] = "T"
    unit: str = Field("", max_length=32)
    description: str = Field("", max_length=1024)
    value_map: dict[str, str] | None = Field(None, description="what each value means, as in {0: open, 1: closed}")


class TemplateAction(Model):
    """A command every device of the template takes."""

    base_id: Point
    kind: Literal["C", "A"] = "C"
    unit: str = Field("", max_length=32)
    description: str = Field("", max_length=1024)
    value_map: dict[str, str] | None = None


class Template(Definition):
    """What a class of device has: names, units and where its points stand."""

    name: str = Field(min_length=1, max_length=256)
    class_: Literal["pv_inverter", "battery", "genset", "grid_meter", "load"] | Id | None = Field(None, alias="class")
    description: str | None = Field(None, max_length=1024)
    data_points: dict[Id, TemplatePoint] = Field({})
    actions: dict[Id, TemplateAction] = Field({})


class Mapping(Model):
    """Where a device's points are: 12, "S:3" or "comsrv:1002:T:5"; offsets shift the template's."""

    channel: Point | None = None
    data: Mapped = Field({})
    action: Mapped = Field({})
    data_offset: Offset | None = None
    action_offset: Offset | None = None


class DeviceModel(Definition):
    """A device by the names of its points."""

    name: str = Field(min_length=1, max_length=256)
    template: Id | None = None
    description: str | None = Field(None, max_length=1024)
    mapping: Mapping = Mapping()
    metadata: dict[str, Any] = Field({})


class ModelQuery(PageQuery):
    """Which models."""

    template: Id | None = None


class ActionBody(Model):
    """A value for an action; the id makes a repeated request one command."""

    value: float
    id: Id | None = None
    ttl_ms: int | None = Field(None, ge=1, le=600_000)
    verify: bool | None = None
