"""From tags to a channel: points of the four kinds, checked as comsrv checks them, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from libs.errors import ConfigurationError, ConflictError, Problem
from libs.points import PointKind
from libs.validation import problems_of
from services.commands.importers.records import COILS, HOLDING, Import, Tag
from services.commands.library import with_channel
from services.comsrv.channel import Channel, Point, Points
from services.comsrv.tables import check_channel
from services.comsrv.tables.points import mapping_path, point_path

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_YAML_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
MIN_INTERVAL_MS: Final = 10
MAX_INTERVAL_MS: Final = 86_400_000
WIDE: Final = frozenset({"int32", "uint32", "float32", "bcd32", "int64", "uint64", "float64", "bcd64"})


class Taken(NamedTuple):
    """A point that is made of a tag: its row of the point table and its row of the mapping table."""

    tag: Tag
    kind: PointKind
    point: dict[str, Any]
    mapping: dict[str, Any]


def points_of(found: Import, port_base: int) -> list[Taken]:
    """Make the points, leave out those that comsrv would refuse (they are lost then), and number the others."""
    groups = _poll_groups(found)
    made = [one for tag in found.tags for one in _points(tag, groups.get(tag.interval_ms, ""))]
    good = _checked(found, made, port_base)
    counts: Counter[PointKind] = Counter()
    # Texts that are written share their numbers with the telemetry points, so they come behind those.
    of_texts = max(Counter(one.kind for one in good).values(), default=0)
    numbered = []
    for one in good:
        text = one.kind is PointKind.ADJUSTMENT and one.tag.wire_type == "string"
        of_texts += text
        counts[one.kind] += not text
        ids = {"point_id": of_texts if text else counts[one.kind]}
        numbered.append(one._replace(point=ids | one.point, mapping=ids | one.mapping))
    return numbered


def _poll_groups(found: Import) -> dict[int | None, str]:
    """Give the channel the interval that most tags have, and each other one a poll group."""
    for index, tag in enumerate(found.tags):
        if tag.interval_ms is not None and not MIN_INTERVAL_MS <= tag.interval_ms <= MAX_INTERVAL_MS:
            found.lose(tag.line, tag.name, f"interval {tag.interval_ms} ms", "is not from 10 ms to a day")
            found.tags[index] = replace(tag, interval_ms=None)
    counts = Counter(tag.interval_ms for tag in found.tags if tag.interval_ms is not None and tag.readable)
    if not counts:
        return {}
    usual = counts.most_common(1)[0][0]
    found.polling.setdefault("interval_ms", usual)
    others = sorted(interval for interval in counts if interval != usual)
    if others:
        found.polling["groups"] = {f"every_{interval}ms": {"interval_ms": interval} for interval in others}
    return {interval: f"every_{interval}ms" for interval in others}


def _points(tag: Tag, group: str) -> list[Taken]:
    """A tag that is read and written is two points: one to read, one to command."""
    found = []
    if tag.readable:
        kind = PointKind.SIGNAL if tag.is_bool else PointKind.TELEMETRY
        found.append(
            Taken(tag, kind, _point_row(tag), _mapping_row(tag, tag.table) | ({"poll_group": group} if group else {}))
        )
    if tag.writable:
        kind = PointKind.CONTROL if tag.is_bool else PointKind.ADJUSTMENT
        code = 5 if tag.table == COILS else 16 if tag.wire_type in WIDE or (tag.registers or 1) > 1 else 6
        partial = tag.table == HOLDING and tag.bit is not None
        rest = {"read_modify_write": 1} if partial else {}
        found.append(Taken(tag, kind, _point_row(tag, written=True), _mapping_row(tag, code) | rest))
    return found


def _point_row(tag: Tag, *, written: bool = False) -> dict[str, Any]:
    scaled = (tag.scale, tag.offset) != (1.0, 0.0)
    clamped = tag.minimum is not None or tag.maximum is not None
    row = {
        "signal_name": tag.name,
        "data_type": "float64" if scaled else tag.wire_type,
        "scale": _shown(tag.scale) if scaled else "",
        "offset": _shown(tag.offset) if tag.offset else "",
        "unit": tag.unit,
        "description": " ".join(tag.description.split()),
        "min": "" if tag.minimum is None else _shown(tag.minimum),
        "max": "" if tag.maximum is None else _shown(tag.maximum),
        "limits": "clamp" if clamped and not written else "",
        "group": tag.group,
    }
    return {name: value for name, value in row.items() if value != ""}


def _mapping_row(tag: Tag, code: int) -> dict[str, Any]:
    row = {
        "slave_id": tag.unit_id,
        "function_code": code,
        "register_address": tag.address,
        "data_type": tag.wire_type,
        "byte_order": tag.order,
        "bit_position": tag.bit,
        "register_count": tag.registers,
    }
    return {name: value for name, value in row.items() if value not in {"", None}}


def _shown(value: float) -> str:
    # 15 digits: 0.1 * 3 is 0.3, not 0.30000000000000004.
    return f"{value:.15g}"


def _checked(found: Import, made: Sequence[Taken], port_base: int) -> list[Taken]:
    """Leave out what the tables' own checks refuse, tag by tag: half a tag would be a surprise."""
    bad: dict[int, list[str]] = {}
    points: dict[str, list[Point]] = {kind.value: [] for kind in PointKind}
    numbers: dict[tuple[PointKind, int], int] = {}
    for index, one in enumerate(made):
        values = {"id": index + 1, "name": one.point["signal_name"]}
        values |= {name: value for name, value in one.point.items() if name != "signal_name"}
        try:
            point = Point.model_validate(values)
        except ValidationError as error:
            bad[index] = [f"{problem.where}: {problem.message}" for problem in problems_of(error, Point)]
            continue
        numbers[one.kind, index + 1] = index
        points[one.kind.value].append(point.mapped(one.mapping))
    problems = check_channel(
        Channel(**_settings(found, 1), points=Points(**{kind: tuple(rows) for kind, rows in points.items()})),
        port_base, "channel", lambda kind, point_id, _: f"#{numbers[kind, point_id]}",
    )  # fmt: skip
    of_channel = [problem.message for problem in problems if not problem.where.startswith("#")]
    if of_channel:
        raise ConfigurationError([Problem(str(found.path), message) for message in of_channel])
    for problem in problems:
        bad.setdefault(int(problem.where[1:]), []).append(problem.message)
    lost = {id(made[index].tag): "; ".join(texts) for index, texts in bad.items()}
    for tag in found.tags:
        if id(tag) in lost:
            found.lose(tag.line, tag.name, "tag", lost[id(tag)])
    return [one for one in made if id(one.tag) not in lost]


def _settings(found: Import, channel: int) -> dict[str, Any]:
    return {
        "id": channel,
        "name": found.name[:256],
        "protocol": found.protocol,
        "parameters": found.parameters,
        "polling": found.polling,
    }


def check_free(channel: int, config: Path, taken: Sequence[int]) -> None:
    """Refuse a channel that is there already, in comsrv.yaml or as a folder.

    Raises:
        ConflictError: it is.
    """
    tables = config / "channels" / str(channel)
    if tables.exists():
        raise ConflictError(f"{tables} exists already; channel {channel} is taken, and nothing is overwritten")
    if channel in taken:
        raise ConflictError(f"channel {channel} stands in {config / 'comsrv.yaml'} already; nothing is overwritten")


def write(found: Import, taken: Sequence[Taken], channel: int, config: Path) -> Path:
    """Write the tables and the entry in comsrv.yaml; when anything fails, nothing is there."""
    settings, file = _settings(found, channel), config / "comsrv.yaml"
    changed = with_channel(file, [f"{name}: {flow(value)}" for name, value in settings.items() if value != {}])
    channels = config / "channels"
    tables = channels / str(channel)
    # The name begins with a dot: no reader takes it for a channel.
    building = channels / f".{channel}-{secrets.token_hex(4)}"
    try:
        building.mkdir(parents=True)
        for kind in PointKind:
            rows = [one for one in taken if one.kind is kind]
            if rows:
                _write_table(point_path(building, kind), [one.point for one in rows])
                _write_table(mapping_path(building, kind), [one.mapping for one in rows])
        prepared = building / "comsrv.yaml"
        prepared.write_text(changed, "utf-8")
        if file.exists():
            shutil.copymode(file, prepared)
        new = file.with_name(f".{file.name}-{channel}")
        prepared.rename(new)
        building.rename(tables)
        try:
            os.replace(new, file)  # noqa: PTH105 - the word says that it replaces
        except OSError:
            shutil.rmtree(tables)
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(
            [Problem(str(error.filename or tables), f"can't be written: {error.strerror}")]
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return tables


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.getvalue(), "utf-8")


def flow(value: Any) -> str:
    """Return a value as YAML in one line; a text that could be read as something else is quoted."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)
