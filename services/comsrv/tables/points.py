"""Point tables: telemetry, signal, control and adjustment .csv, and the mapping tables beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from libs.errors import Problem
from libs.points import PointKind
from libs.validation import Model, problems_of
from services.comsrv.channel import MAX_ID, Point
from services.comsrv.fields import Integer
from services.comsrv.options import OPTION_COLUMNS
from services.comsrv.tables.reader import Form, read_table

# Column of the table -> field of the model, where they differ.
_RENAMED: Final = {"point_id": "id", "signal_name": "name"}
_COLUMNS: Final = {field: column for column, field in _RENAMED.items()}
_NESTED: Final = ("mapping", "command")
POINT_COLUMNS: Final = tuple(_COLUMNS.get(name, name) for name in Point.model_fields if name not in _NESTED)
REQUIRED_POINT_COLUMNS: Final = ("point_id", "signal_name", "data_type")

T = TypeVar("T", bound=Model)


class Located(NamedTuple):
    """A row that was read: where it stands (`file:line`), and the model; None for one with problems."""

    where: str
    model: Model | None


class Table(NamedTuple):
    """The rows by point id, and whether none was lost: only then is a row that is not there a problem of its own."""

    rows: dict[int, Located]
    whole: bool


ABSENT: Final = Table({}, whole=True)


class _PointId(Model):
    id: Integer = Field(ge=1, le=MAX_ID)


def point_path(folder: Path, kind: PointKind) -> Path:
    """Return the path of the point table of a kind."""
    return folder / f"{kind.table}.csv"


def mapping_path(folder: Path, kind: PointKind) -> Path:
    """Return the path of the mapping table of a kind."""
    return folder / "mapping" / f"{kind.table}_mapping.csv"


def read_points(path: Path, kind: PointKind, problems: list[Problem]) -> Table:
    """Read a point table: point id -> a `Point`. Only points that are written have columns about commands."""
    known = POINT_COLUMNS if kind.readable else (*POINT_COLUMNS, *OPTION_COLUMNS)
    form = read_table(path, known, REQUIRED_POINT_COLUMNS, problems)
    return _by_id(form, path, Point, problems)


def read_mappings(path: Path, model: type[Model], problems: list[Problem]) -> Table:
    """Read a mapping table: point id -> the protocol's mapping model."""
    known = ["point_id", *model.model_fields]
    required = ["point_id", *(name for name, field in model.model_fields.items() if field.is_required())]
    form = read_table(path, known, required, problems)
    return _by_id(form, path, model, problems)


def _by_id(form: Form, path: Path, model: type[Model], problems: list[Problem]) -> Table:
    """Validate each row and index it by point id; a point id twice names both lines."""
    found: dict[int, Located] = {}
    lines: dict[int, int] = {}
    whole = form.whole
    for line, cells in form.rows:
        where = f"{path}:{line}"
        values: dict[str, Any] = {_RENAMED.get(name, name): cell for name, cell in cells.items()}
        own = {"id": values["id"]} if "id" in values else {}
        identity = _validated(own, _PointId, where, problems)
        if model is Point:
            options = {name: values.pop(name) for name in OPTION_COLUMNS if name in values}
            if options:
                values["command"] = options
            # The id is checked above; a bad one must not be reported twice.
            values["id"] = identity.id if identity else 1
        else:
            values.pop("id", None)
        parsed = _validated(values, model, where, problems)
        if identity is None:
            whole = False
            continue
        if identity.id in lines:
            problems.append(Problem(where, f"point {identity.id} stands twice; first in line {lines[identity.id]}"))
            continue
        lines[identity.id] = line
        found[identity.id] = Located(where, parsed)
    return Table(found, whole)


def _validated(values: dict[str, Any], model: type[T], where: str, problems: list[Problem]) -> T | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for problem in problems_of(error, model):
            # What concerns several columns of a row has no column of its own.
            place = problem.where.removeprefix("command.")
            name = "" if place in {"(document)", "command"} else f"{_COLUMNS.get(place, place)}: "
            problems.append(Problem(where, f"{name}{problem.message}"))
        return None
