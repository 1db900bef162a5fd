"""The page docs/history.md is true: its mappings are taken, its Python blocks read the store's files as they lie."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from libs.redis.queue import EntryId
from services.hissrv.app import desired
from services.hissrv.recording import Mapping, Recorder
from services.hissrv.settings import HissrvSettings
from services.hissrv.store.contract import Entry, Part
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.embedded import EmbeddedStore

PAGE = Path(__file__).parents[3] / "docs" / "history.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
MAPPINGS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SERIES = "comsrv:1003:T:2"


@pytest.mark.parametrize("number", range(3), ids=["pandas", "polars", "duckdb"])
@pytest.mark.filterwarnings("default")  # of the libraries
async def test_files_are_read_as_they_lie(tmp_path: Path, number: int) -> None:
    """pandas, Polars and DuckDB see the samples of closed windows and finished days."""
    store = EmbeddedStore(tmp_path)
    await store.open()
    for day in range(2):
        values = np.array([12.5 + day, 7.0])
        part = Part(day * DAY_MS + 5, [SERIES, "comsrv:1:T:1"], values, ["", "bad:timeout"])
        await store.write([Entry(EntryId(1, day), [part], image=day)])
        store.window.close_due(0, force=True)
        await store.maintain((1 + day) * DAY_MS)
    await store.close()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(BLOCKS[number], {"HISTORY": str(tmp_path), "SERIES": SERIES})  # noqa: S102 - our own page
    assert "12.5" in printed.getvalue()
    assert "13.5" in printed.getvalue()
    assert "7.0" not in printed.getvalue()


def test_the_mappings_are_as_they_are_told(tmp_path: Path) -> None:
    """The first that matches by id decides, and the last one takes the rest."""
    (tmp_path / "mappings").mkdir()
    (text,) = MAPPINGS
    (tmp_path / "mappings" / "site.yaml").write_text(text)
    read = desired(HissrvSettings.model_validate({"config_dir": tmp_path}))
    recorder = Recorder([one.definition for one in read if isinstance(one.definition, Mapping)])
    battery, other = recorder.of("comsrv:1003:T:2"), recorder.of("comsrv:1001:S:1")
    assert battery is not None
    assert (battery.mapping, battery.every_ms, battery.retention_days) == ("a_battery", 10_000, 30)
    assert other is not None
    assert (other.mapping, other.every_ms, other.deadband) == ("z_rest", 0, 0.05)
