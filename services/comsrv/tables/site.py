"""A site: every channel of comsrv.yaml with its point tables, or every problem at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from libs import expression
from libs.errors import ConfigurationError, InvalidError, Problem
from libs.points import PointKind
from libs.services import resolve_port
from libs.validation import UNPLACED, Model, nearest, problems_of
from services.comsrv.channel import Channel, ChannelSettings, Point, Points, Polling
from services.comsrv.contract import ComBase
from services.comsrv.options import CommandOptions
from services.comsrv.plugins.registry import protocols
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables.points import ABSENT, Table, mapping_path, point_path, read_mappings, read_points

# Says where a point ("T", 7) or its mapping stands.
Where = Callable[[PointKind, int, str], str]
# Families a kind may have.
_FAMILIES: Final = {
    PointKind.TELEMETRY: ("number", "text"),
    PointKind.SIGNAL: ("bool", "double"),
    PointKind.CONTROL: ("bool", "double", "number"),
    PointKind.ADJUSTMENT: ("number", "text"),
}


def load_site(
    config_dir: Path, settings: ComsrvSettings, where: Callable[[tuple[str | int, ...]], str] | None = None
) -> tuple[Channel, ...]:
    """Read the tables of every channel.

    Args:
        config_dir: the folder that holds `channels/{id}/`.
        settings: comsrv's settings.
        where: names the file and line of a path in the settings, as `Document.where` does.

    Raises:
        ConfigurationError: every problem of every table, each with file and line.
    """
    problems: list[Problem] = []
    channels: list[Channel] = []
    seen: dict[int, int] = {}
    links: dict[str, tuple[int, dict[str, Any]]] = {}
    for index, declared in enumerate(settings.channels):
        place = where(("channels", index)) if where else f"comsrv.yaml channels[{index}]"
        if declared.id in seen:
            problems.append(
                Problem(place, f"channel {declared.id} stands twice; first as channels[{seen[declared.id]}]")
            )
            continue
        seen[declared.id] = index
        before = len(problems)
        channels.append(_load_channel(config_dir / "channels" / str(declared.id), declared, place, settings, problems))
        if len(problems) == before:
            found = _disagreements(channels[-1], settings.port_base, links)
            problems += [Problem(place, f"{field}: {text}") for field, text in found]
    if problems:
        raise ConfigurationError(problems)
    return tuple(channels)


def check_channel(channel: Channel, port_base: int, place: str = "", where: Where | None = None) -> list[Problem]:
    """Return all that is wrong with a channel: its protocol, parameters, points and mappings.

    `place` is where the channel stands; without it each problem is at its field.
    """

    def default_where(kind: PointKind, point_id: int, part: str) -> str:
        return f"points.{kind}.{point_id}" + (".mapping" if part == "mapping" else "")

    plugin = protocols().get(channel.protocol)
    if plugin is None:
        known = protocols()
        text = f"unknown protocol {channel.protocol!r}{nearest(channel.protocol, known)} (there are {', '.join(known)})"
        return [Problem(place or "protocol", text)]
    if missing := plugin.missing():
        return [Problem(place or "protocol", missing)]
    problems: list[Problem] = []
    parameters = _parameters(channel, plugin, place, port_base, problems)
    for kind in PointKind:
        seen: set[int] = set()
        for point in channel.points.of(kind):
            at = where or default_where
            if point.id in seen:
                problems.append(Problem(at(kind, point.id, "point"), f"point {point.id} stands twice"))
            seen.add(point.id)
            problems += [Problem(at(kind, point.id, "point"), text) for text in _check_point(kind, point, plugin)]
            found = [
                *_check_mapping(kind, point, plugin, parameters, channel.polling),
                *_check_group(point, plugin, channel.polling),
            ]
            problems += [Problem(at(kind, point.id, "mapping"), text) for text in found]
    problems += [Problem((where or default_where)(*found[:2], "point"), found[2]) for found in _shared_numbers(channel)]
    return problems + [_at(place, field, text) for field, text in _check_reporting(channel)]


def _at(place: str, field: str, text: str) -> Problem:
    """Return a problem of a field of the channel that stands at a place, or of one that stands nowhere."""
    return Problem(place, f"{field}: {text}") if place else Problem(field, text)


def _check_reporting(channel: Channel) -> list[tuple[str, str]]:
    """Return the groups that are reported by exception and that no point is of: a slip, as a rule."""
    groups = {point.group for kind in PointKind for point in channel.points.of(kind) if point.group}
    return [
        (f"reporting.groups.{name}", f"no point has the group {name!r}{nearest(name, groups)}")
        for name in channel.reporting.groups
        if name not in groups
    ]


def check_link(channel: Channel, others: Iterable[Channel], port_base: int) -> list[Problem]:
    """Return what a new channel does not agree on with those that use its link already."""
    links: dict[str, tuple[int, dict[str, Any]]] = {}
    for other in others:
        _disagreements(other, port_base, links)
    return [Problem(field, text) for field, text in _disagreements(channel, port_base, links)]


def _disagreements(
    channel: Channel, port_base: int, links: dict[str, tuple[int, dict[str, Any]]]
) -> list[tuple[str, str]]:
    """Return what a channel does not agree on with the first one of its link; `links` grows by new ones."""
    plugin = protocols()[channel.protocol]
    found = plugin.shared(plugin.parameters.model_validate(channel.parameters), port_base)
    if found is None:
        return []
    name, wanted = found
    first, agreed = links.setdefault(name, (channel.id, wanted))
    return [
        (field, f"channel {first} shares {name} and has {agreed.get(field)!r}, not {value!r}")
        for field, value in wanted.items()
        if agreed.get(field) != value
    ]


def _load_channel(
    folder: Path, declared: ChannelSettings, place: str, settings: ComsrvSettings, problems: list[Problem]
) -> Channel:
    """Read the tables of one channel; a table that is absent has no points."""
    plugin = protocols().get(declared.protocol)
    mapping_model = plugin.mapping if plugin else None
    places: dict[tuple[PointKind, int, str], str] = {}
    points: dict[str, tuple[Point, ...]] = {}
    before = len(problems)
    problems += _stray_files(folder)
    for kind in PointKind:
        path = point_path(folder, kind)
        table = read_points(path, kind, problems) if path.exists() else ABSENT
        path = mapping_path(folder, kind)
        mappings = ABSENT
        if path.exists() and mapping_model is not None:
            mappings = read_mappings(path, mapping_model, problems)
        elif path.exists() and plugin is not None and path.read_text("utf-8-sig", "replace").strip().count("\n"):
            problems.append(Problem(str(path), f"a {declared.protocol} channel has no mappings"))
        points[kind.value] = _joined(kind, table, mappings, places, problems)
    if not any(points.values()) and len(problems) == before:
        problems.append(Problem(str(folder), f"channel {declared.id} has no points; write {folder}/telemetry.csv"))
    channel = Channel(**declared.model_dump(), points=Points(**points), source="file")

    def where(kind: PointKind, point_id: int, part: str) -> str:
        return places.get((kind, point_id, part)) or places.get((kind, point_id, "point"), str(folder))

    problems += check_channel(channel, settings.port_base, place, where)
    return channel


def _joined(
    kind: PointKind,
    table: Table,
    mappings: Table,
    places: dict[tuple[PointKind, int, str], str],
    problems: list[Problem],
) -> tuple[Point, ...]:
    """Put each mapping into its point; a mapping without point is a problem.

    Where rows were lost to other problems, a missing partner would only repeat them.
    """
    joined = []
    for point_id, row in table.rows.items():
        places[kind, point_id, "point"] = row.where
        point, mapping = row.model, mappings.rows.get(point_id)
        lost = mapping.model is None if mapping is not None else not mappings.whole
        if not isinstance(point, Point) or lost:
            continue
        if mapping is not None and mapping.model is not None:
            places[kind, point_id, "mapping"] = mapping.where
            point = point.mapped(mapping.model.model_dump(exclude_unset=True))
        joined.append(point)
    if table.whole:
        problems += [
            Problem(mapping.where, f"mapping of point {point_id}, which is not in {kind.table}.csv")
            for point_id, mapping in mappings.rows.items()
            if point_id not in table.rows
        ]
    return tuple(joined)


def _stray_files(folder: Path) -> list[Problem]:
    """Report CSV files whose name nothing reads: a misspelled table would be a silent loss."""
    known = [point_path(Path(), kind).name for kind in PointKind]
    mappings = [mapping_path(Path(), kind).name for kind in PointKind]
    return [
        Problem(str(path), f"is no table of a channel{nearest(path.name, names)}")
        for place, names in ((folder, known), (folder / "mapping", mappings))
        for path in sorted(place.glob("*.csv"))
        if path.name not in names
    ]


def _shared_numbers(channel: Channel) -> list[tuple[PointKind, int, str]]:
    """Return text adjustments whose number a telemetry point has: texts of both are comsrv:{ch}:X:{number}."""
    kind, read = PointKind.ADJUSTMENT, {point.id for point in channel.points.of(PointKind.TELEMETRY)}
    text = "point_id: a text shares its numbers with the telemetry points, and there is one of this number"
    return [(kind, point.id, text) for point in channel.points.of(kind) if point.family == "text" and point.id in read]


def _parameters(
    channel: Channel, plugin: type[ComBase], place: str, port_base: int, problems: list[Problem]
) -> Model | None:
    try:
        parameters = plugin.parameters.model_validate(channel.parameters)
    except ValidationError as error:
        for problem in problems_of(error, plugin.parameters):
            field = "parameters" if problem.where == UNPLACED else f"parameters.{problem.where}"
            problems.append(_at(place, field, problem.message))
        return None
    port = getattr(parameters, "port", None)
    # The port of a serial line is a device file.
    if port is not None and not str(port).startswith("/"):
        try:
            resolve_port(port, port_base)
        except InvalidError as error:
            problems.append(_at(place, "parameters.port", str(error)))
    return parameters


def _check_point(kind: PointKind, point: Point, plugin: type[ComBase]) -> Sequence[str]:
    found = []
    if point.family not in _FAMILIES[kind]:
        wanted = " or ".join(_FAMILIES[kind])
        found.append(f"data_type: {kind.table} points are {wanted}, not {point.data_type}")
    if point.expression and plugin.computed(point):
        try:
            expression.parse(point.expression)
        except InvalidError as error:
            found.append(f"expression: {error}")
    if point.command is not None:
        found += _check_command(kind, point, point.command)
    return found


def _check_command(kind: PointKind, point: Point, options: CommandOptions) -> Sequence[str]:
    found = []
    if kind.readable:
        return [f"command: a {kind.table} point takes no commands"]
    if kind is not PointKind.CONTROL and options.pulse_ms is not None:
        found.append("pulse_ms: only control points are pulsed")
    low, high = (-math.inf if point.min is None else point.min), (math.inf if point.max is None else point.max)
    values = (options.fallback, *(options.allowed or ()))
    found += [
        f"{value:.15g} is outside min and max" for value in values if value is not None and not low <= value <= high
    ]
    if options.fallback is not None and options.allowed is not None and options.fallback not in options.allowed:
        found.append(f"fallback: {options.fallback:.15g} is not among the allowed values")
    return found


def _check_group(point: Point, plugin: type[ComBase], polling: Polling) -> list[str]:
    """Return what is wrong with the poll group that a mapping names, where its protocol has the column."""
    group = (point.mapping or {}).get("poll_group") or ""
    if plugin.mapping is None or "poll_group" not in plugin.mapping.model_fields or group in {"", *polling.groups}:
        return []
    there = f" (there are {', '.join(polling.groups)})" if polling.groups else "; polling.groups is empty"
    return [f"poll_group: {group!r} is no group of polling.groups{nearest(str(group), polling.groups)}{there}"]


def _check_mapping(
    kind: PointKind, point: Point, plugin: type[ComBase], parameters: Model | None, polling: Polling
) -> Sequence[str]:
    if plugin.mapping is None:
        if point.mapping is not None:
            return ["this protocol has no mappings"]
        return plugin.check(kind, point, None, parameters) if parameters else []
    if point.mapping is None:
        return [f"point {point.id} has no row in {kind.table}_mapping.csv"]
    try:
        mapping = plugin.mapping.model_validate(point.mapping)
    except ValidationError as error:
        return [f"{problem.where}: {problem.message}" for problem in problems_of(error, plugin.mapping)]
    if parameters is None:
        return []
    found = plugin.check(kind, point, mapping, parameters)
    return found or plugin.check_length(kind, point, mapping, parameters, polling)
