"""`voltage points sheet`: what was seen of each point at commissioning, for the file that is signed."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from libs.clock import now_ms
from libs.errors import ConfigurationError, Problem
from libs.spreadsheet import no_formula
from libs.validation import Model, problems_of
from services.commands.api import pages
from services.comsrv.fields import Integer, Number
from services.comsrv.tables.reader import read_table

MAX_POINTS: Final = 20_000
COLUMNS: Final = (
    "ref", "type", "point_id", "name", "unit", "expected", "seen", "label", "quality", "ok", "seen_at", "by", "at",
)  # fmt: skip
EXPECTED: Final = ("type", "point_id", "expected", "tolerance")


class Expectation(Model):
    """A row of the table of what is expected."""

    type: str = "T"
    point_id: Integer
    expected: str
    tolerance: Number = 0.0

    def met_by(self, point: dict[str, Any]) -> bool:
        """Say whether a point has the value: a number within the tolerance, a text or a label to the letter."""
        value = point["value"]
        if point["quality"] != "good" or value is None:
            return False
        if self.expected in {value, point.get("label")}:
            return True
        try:
            wanted = float(self.expected)
        except ValueError:
            return False
        return isinstance(value, int | float) and math.isclose(value, wanted, rel_tol=1e-9, abs_tol=self.tolerance)


@click.command()
@click.argument("channel", type=int)
@click.option("--by", required=True, help="Who looked.")
@click.option("--expected", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV of what should be.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file instead of the terminal.")
def sheet(channel: int, by: str, expected: Path | None, output: Path | None) -> None:
    """Write the commissioning sheet of a running channel as CSV: point, expected, seen, by whom, when.

    --expected names a CSV with the columns type, point_id, expected and, where wanted, tolerance.
    The exit code is 1 when a point is not as expected.
    """
    wanted = _expectations(expected) if expected is not None else {}
    found = pages(f"/api/channels/{channel}/points", {}, MAX_POINTS)
    known = {(point["type"], point["id"]) for point in found}
    unknown = [key for key in wanted if key not in known]
    if unknown:
        where = str(expected)
        raise ConfigurationError(
            [Problem(where, f"channel {channel} has no point {kind}:{number}") for kind, number in unknown]
        )
    at = _rfc3339(now_ms())
    rows = [_row(point, wanted.get((point["type"], point["id"])), by, at) for point in found]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    if output is None:
        click.echo(text.getvalue(), nl=False)
    else:
        output.write_text(text.getvalue(), "utf-8")
    failed = [row["ref"] for row in rows if row["ok"] == "no"]
    if output is not None or failed:
        checked = len([row for row in rows if row["ok"]])
        shown = f", not as expected: {', '.join(failed)}" if failed else ""
        click.echo(f"{len(rows)} points seen, {checked} checked{shown}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _row(point: dict[str, Any], wanted: Expectation | None, by: str, at: str) -> dict[str, Any]:
    value = point["value"]
    return {
        "ref": point["ref"],
        "type": point["type"],
        "point_id": point["id"],
        "name": no_formula(point["name"]),
        "unit": no_formula(point["unit"]),
        "expected": wanted.expected if wanted else "",
        "seen": _seen(value),
        "label": no_formula(point.get("label") or ""),
        "quality": point["quality"],
        "ok": "" if wanted is None else "yes" if wanted.met_by(point) else "no",
        "seen_at": _rfc3339(point["seen_at_ms"]) if point["seen_at_ms"] else "",
        "by": no_formula(by),
        "at": at,
    }


def _seen(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return no_formula(value) if isinstance(value, str) else "" if value is None else str(value)


def _rfc3339(at_ms: int) -> str:
    """Write an instant as the local clock shows it, with its offset."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().isoformat(timespec="seconds")


def _expectations(path: Path) -> dict[tuple[str, int], Expectation]:
    """Read the table of what is expected.

    Raises:
        ConfigurationError: every problem, with file and line.
    """
    problems: list[Problem] = []
    found: dict[tuple[str, int], Expectation] = {}
    for line, cells in read_table(path, EXPECTED, ("point_id", "expected"), problems).rows:
        where = f"{path}:{line}"
        try:
            row = Expectation.model_validate(cells)
        except ValidationError as error:
            problems += [Problem(where, f"{one.where}: {one.message}") for one in problems_of(error, Expectation)]
            continue
        key = row.type.upper(), row.point_id
        if key in found:
            problems.append(Problem(where, f"point {key[0]}:{key[1]} stands twice"))
        found[key] = row
    if problems:
        raise ConfigurationError(problems)
    return found
