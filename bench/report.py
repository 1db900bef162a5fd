"""What every benchmark ends with: a table for people and a JSON file for comparison."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

RESULTS: Final = Path(__file__).parent / "results"


class Row(NamedTuple):
    """One measured figure; `limit` was measured in the same run, `ratio` is value / limit."""

    case: str
    metric: str
    value: float
    unit: str
    limit: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the row as it stands in the file."""
        ratio = self.value / self.limit if self.limit else None
        return {
            "case": self.case,
            "metric": self.metric,
            "value": _round(self.value),
            "unit": self.unit,
            "limit": None if self.limit is None else _round(self.limit),
            "ratio": None if ratio is None else _round(ratio),
        }


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def commit() -> str:
    """Return the short name of the commit that runs, marked when files differ from it."""
    folder = Path(__file__).parent
    named = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return named.stdout.strip() or "unknown"


def table(title: str, heads: list[str], lines: list[list[str]]) -> None:
    """Print a table: the first column is text, the others are figures."""
    grid = Table(title=title, title_justify="left")
    for index, head in enumerate(heads):
        grid.add_column(head, justify="left" if index == 0 else "right")
    for line in lines:
        grid.add_row(*line)
    Console(width=max(180, Console().width)).print(grid)


def write(name: str, rows: list[Row], **more: Any) -> Path:
    """Write bench/results/<name>.json and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"name": name, "commit": commit(), "cores": os.cpu_count(), **more, "rows": [r.document() for r in rows]}
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return path
