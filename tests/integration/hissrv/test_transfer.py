"""Exports, imports and copies: everything comes back, twice changes nothing, a wrong file changes nothing."""

from __future__ import annotations

import io
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs import clock
from libs.errors import InvalidError, NotFoundError
from libs.http import Role
from libs.http.bodies import MAX_BYTES
from libs.http.tokens import issue
from libs.redis.functions import Functions
from libs.redis.queue import EntryId
from services.hissrv.handlers import TRANSFER
from services.hissrv.jobs import Cancelled, Jobs, Progress
from services.hissrv.replay.handlers import JOBS
from services.hissrv.store.contract import Entry, Part, Query, Store
from services.hissrv.store.edges import DAY_MS
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.pair import PairStore
from services.hissrv.transfer import Transfer
from tests.integration.hissrv.support import START_MS, Api
from tests.support.onloop import files_on_the_loop
from tests.support.wait import wait_until

REFS = ["comsrv:1:T:1", "comsrv:1:T:2", "modsrv:pv1:active_power"]
DAYS = 3


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedStore, EmbeddedStore]]:
    """Give a store with three days of samples, and an empty one."""
    full, empty = EmbeddedStore(tmp_path / "full"), EmbeddedStore(tmp_path / "empty")
    await full.open()
    await empty.open()
    rng = random.Random(5)
    for number in range(300):
        refs = rng.sample(REFS, 2)
        quality = rng.choice([["", ""], ["", "bad:timeout"], ["uncertain:test", ""]])
        values = np.array([rng.random(), np.nan if quality[1] else 1.5])
        part = Part(rng.randrange(DAYS * DAY_MS), refs, values, quality)
        await full.write([Entry(EntryId(1, number), [part], image=number)])
    full.window.close_due(0, force=True)
    await full.maintain(2 * DAY_MS)
    yield full, empty
    await full.close()
    await empty.close()


async def everything(store: Store) -> dict[str, list[tuple[int, float | None, str]]]:
    """Return all samples."""
    answer = await store.query(Query(REFS, 0, 2**50, 2**50, limit=100_000))
    return {ref: [(p.at_ms, p.value, p.reason) for p in points] for ref, points in answer.items()}


async def told(_: float, __: str = "") -> None:
    """Take progress and forget it."""


RANGE = {"start": 0, "end": 2**50, "series": None}


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_there_and_back(
    stores: tuple[EmbeddedStore, EmbeddedStore], tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is exported and imported elsewhere is the same there, also when imported twice."""
    monkeypatch.setattr("services.hissrv.transfer.PAGE", 40)
    full, empty = stores
    progress: Any = told
    result = await Transfer(lambda: {"main": full}, tmp_path).export({**RANGE, "job": "j-1", "format": form}, progress)
    assert (result["series"], result["samples"]) == (3, sum(map(len, (await everything(full)).values())))
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [f"j-1.{form}"]
    (tmp_path / "imports").mkdir(exist_ok=True)
    (tmp_path / "exports" / result["file"]).rename(tmp_path / "imports" / f"j.{form}")
    for _ in range(2):
        await Transfer(lambda: {"main": empty}, tmp_path).import_({"file": f"j.{form}"}, progress)
        assert await everything(empty) == await everything(full)
    await empty.maintain(10 * DAY_MS)
    assert await everything(empty) == await everything(full)
    newest = {one.series: one.point for one in await full.latest(None, limit=10)}
    assert {one.series: one.point for one in await empty.latest(None, limit=10)} == newest
    some = {**RANGE, "job": "j-2", "format": "parquet", "series": ["modsrv:*"], "end": DAY_MS}
    result = await Transfer(lambda: {"main": full}, tmp_path).export(some, progress)
    table = pq.read_table(result["path"])
    assert set(table["series"].to_pylist()) == {REFS[2]}
    assert max(table["at_ms"].to_pylist()) < DAY_MS


async def test_copy_and_two_stores_at_once(stores: tuple[EmbeddedStore, EmbeddedStore], tmp_path: Path) -> None:
    """A copy fills the other store; from then on both take every entry."""
    full, empty = stores
    pair = PairStore(full, empty)
    transfer = Transfer(lambda: {"main": pair, "embedded": full, "server": empty}, tmp_path)
    progress: Any = told
    for _ in range(2):
        await transfer.copy({**RANGE, "from": "embedded", "to": "server"}, progress)
        assert await everything(empty) == await everything(full)
    one = Entry(EntryId(7, 7), [Part(5 * DAY_MS, REFS, np.ones(3))])
    assert await pair.write([one]) == (3, 0, [])
    assert await everything(empty) == await everything(full) == await everything(pair)
    assert await pair.write([one]) == (0, 1, [])
    assert (await pair.status()).kind == "embedded and embedded"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("series,at_ms,value\ncomsrv:1:T:1,5,1\nnonsense,6,1\ncomsrv:1:T:1,-7,1\n", ["line 3", "nonsense", "line 4"]),
        ("series,value\ncomsrv:1:T:1,5\n", ["at_ms or time"]),
        ("series,at_ms,value,colour\ncomsrv:1:T:1,5,1,red\n", ["unknown columns colour"]),
        ("series,at_ms,value\ncomsrv:1:T:1,soon,1\n", ["soon"]),
        ("series,at_ms,value\ncomsrv:1:T:1,5,inf\n", ["line 2", "infinite"]),
    ],
)
async def test_a_wrong_file_changes_nothing(
    stores: tuple[EmbeddedStore, EmbeddedStore], tmp_path: Path, text: str, said: list[str]
) -> None:
    """Every wrong line is named, and not one sample is written."""
    _, empty = stores
    (tmp_path / "imports").mkdir(exist_ok=True)
    (tmp_path / "imports" / "a.csv").write_text(text)
    progress: Any = told
    with pytest.raises(InvalidError) as caught:
        await Transfer(lambda: {"main": empty}, tmp_path).import_({"file": "a.csv"}, progress)
    assert all(one in str(caught.value) for one in said), caught.value
    assert not any((await everything(empty)).values())


async def test_other_columns(stores: tuple[EmbeddedStore, EmbeddedStore], tmp_path: Path) -> None:
    """Times as RFC 3339, a quality number without a text, an empty value; names of files stay in their folder."""
    _, empty = stores
    (tmp_path / "imports").mkdir(exist_ok=True)
    rows = "comsrv:1:T:1,1970-01-01T00:00:05Z,1.5,192\ncomsrv:1:T:1,1970-01-01T00:00:06.5+00:00,,0\n"
    (tmp_path / "imports" / "a.csv").write_text(f"series,time,value,quality\n{rows}")
    transfer = Transfer(lambda: {"main": empty}, tmp_path)
    progress: Any = told
    await transfer.import_({"file": "a.csv"}, progress)
    assert (await everything(empty))["comsrv:1:T:1"] == [(5000, 1.5, ""), (6500, None, "bad:imported")]
    for name in ("../a.csv", "/etc/passwd", "a.txt", ""):
        with pytest.raises(InvalidError):
            await transfer.file(transfer.imports, name)
    with pytest.raises(NotFoundError):
        await transfer.file(transfer.imports, "b.csv")


async def test_jobs(functions: Functions) -> None:
    """A job is worked off with progress and a result; one that fails says why; a cancelled one stops."""
    asked: list[dict[str, Any]] = []

    async def good(body: dict[str, Any], progress: Progress) -> dict[str, Any]:
        progress._told_ms = 0
        await progress(0.5, "half")
        asked.append(await functions.read_json("job_get", body["job"]))
        return {"rows": 7}

    async def bad(body: dict[str, Any], _: Progress) -> dict[str, Any]:
        raise InvalidError(f"line 3 of {body['file']}")

    async def long(body: dict[str, Any], progress: Progress) -> dict[str, Any]:
        await functions.call("job_cancel", body["job"], {"by": "ann"})
        progress._told_ms = 0
        with pytest.raises(Cancelled):
            await progress(0.1)
        raise Cancelled("it is")

    jobs = Jobs(functions, "me", {"good": good, "bad": bad, "long": long})
    for kind in ("good", "bad", "long", "other"):
        await jobs.submit(kind, {"file": "a.csv"})
    assert b'"duplicate":true' in await jobs.submit("other", {"file": "a.csv"})
    for _ in range(4):
        await jobs._work(await functions.json("job_claim", "history", {"owner": "me"}))
    assert [(job["progress"], job["message"], job["state"]) for job in asked] == [(0.5, "half", "running")]

    async def page() -> Any:
        return [
            (job["kind"], job["state"], job["error"], job["result"])
            for job in (await functions.read_json("job_list", "history", {}))["items"]
        ]

    assert await page() == [
        ("other", "failed", "this hissrv has no jobs of kind other", None),
        ("long", "failed", "cancelled by ann", None),
        ("bad", "failed", "line 3 of a.csv", None),
        ("good", "done", None, {"rows": 7}),
    ]


async def test_over_http(api: Api) -> None:
    """An export is asked for, watched, downloaded; ranges and names are checked before a job is made."""
    status, job = await api.call("POST", "export", {"format": "csv"})
    assert (status, job["state"]) == (202, "waiting")

    async def done() -> Any:
        found = await api.call("GET", f"../jobs/{job['id']}")
        return found[1]["state"] == "done" and found[1]

    finished = await wait_until(done, "the export is done")
    assert finished["result"]["samples"] == 0
    status, text = await api.call("GET", f"exports/{finished['result']['file']}", raw=True)
    assert (status, text.split("\n")[0].replace('"', "")) == (200, "series,at_ms,value,quality,reason")
    _, listed = await api.call("GET", "../jobs")
    assert [one["id"] for one in listed["items"]] == [job["id"]]
    assert (await api.call("POST", f"../jobs/{job['id']}/cancel"))[0] == 409
    assert (await api.call("GET", "exports/none.csv"))[0] == 404
    for path, body in (
        ("export", {"start": 5, "end": 5}), ("export", {"format": "xml"}), ("import", {"file": "../x.csv"}),
        ("copy", {"from": "embedded", "to": "embedded"}),
    ):  # fmt: skip
        assert (await api.call("POST", path, body))[0] == 422, (path, body)
    assert (await api.call("POST", "import", {"file": "none.csv"}))[0] == 404


CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


async def upload(api: Api, data: Any, media: str = CSV, role: Role = Role.ENGINEER) -> tuple[int, dict[str, Any]]:
    """Send a file; return status and answer."""
    headers = {"Authorization": f"Bearer {issue(api.key, 'ann', role, 60)}", "Content-Type": media}
    async with api.http.post("/api/history/import", data=data, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


def files(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def emptied(folder: Path) -> None:
    """Wait until nothing is left in a folder."""

    async def empty() -> bool:
        return files(folder) == []

    await wait_until(empty, f"{folder} is empty")


async def ended(api: Api, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job once it has ended."""

    async def over() -> Any:
        _, found = await api.call("GET", f"../jobs/{job['id']}")
        return found["state"] in {"done", "failed"} and found

    found: dict[str, Any] = await wait_until(over, "the job ends")
    return found


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    """Give the folder uploads come to."""
    return tmp_path / "data" / "transfer" / "imports"


async def test_a_file_is_imported_by_its_upload(api: Api, imports: Path, tmp_path: Path) -> None:
    """CSV and Parquet come in as they are read, twice is the same, and no file stays here."""
    rows = 60_000
    text = "series,at_ms,value\n" + "".join(f"comsrv:1:T:1,{START_MS + at},{at / 4}\n" for at in range(rows))
    table = pa.table(
        {"series": ["comsrv:1:T:2"] * 3, "at_ms": [START_MS, START_MS + 1, START_MS + 2], "value": [1.0] * 3}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    parquet = (tmp_path / "a.parquet").read_bytes()
    assert len(text) > MAX_BYTES
    for _ in range(2):
        for data, media, count in ((text.encode(), CSV, rows), (parquet, PARQUET, 3)):
            status, job = await upload(api, io.BytesIO(data), media)
            assert (status, job["kind"]) == (202, "import")
            assert (await ended(api, job))["result"]["samples"] == count
    one, two = await api.query("comsrv:1:T:1", "comsrv:1:T:2", aggregate="count")
    assert [series["points"][0][1] for series in (one, two)] == [rows, 3]
    await emptied(imports)


@pytest.mark.parametrize(
    ("data", "media", "said"),
    [
        (b"series,at_ms,value\ncomsrv:1:T:1,5,1\nnonsense,6,1\n", CSV, "line 3"),
        (b"\x00\xff\x00", CSV, "can't be read"),
        (b"PAR1 this is none", PARQUET, "can't be read"),
    ],
)
async def test_a_wrong_upload_changes_nothing(api: Api, imports: Path, data: bytes, media: str, said: str) -> None:
    """The job fails and says why, nothing of the file is written, and the file goes."""
    _, job = await upload(api, data, media)
    found = await ended(api, job)
    assert found["state"] == "failed"
    assert said in found["error"] or "columns" in found["error"]
    assert (await api.query("comsrv:1:T:1"))[0]["points"] == []
    await emptied(imports)


async def test_uploads_have_limits(api: Api, imports: Path) -> None:
    """Too large, said so or not; empty; broken off; not allowed: refused, and nothing stays."""
    uploads = api.http.server.app[TRANSFER].uploads  # type: ignore[union-attr]
    uploads._limit = 1000

    async def parts(count: int, *, broken: bool = False) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 500
        if broken:
            raise ValueError("the sender goes away")

    for data in (b"x" * 1001, parts(9)):
        status, problem = await upload(api, data)
        assert (status, problem["code"]) == (413, "LIMIT")
        assert "larger than 1000 bytes" in problem["detail"]
    assert (await upload(api, b""))[0] == 422
    assert (await upload(api, b"x", role=Role.OPERATOR))[0] == 403
    assert (await upload(api, b"x", "text/plain"))[0] == 400
    with pytest.raises(Exception, match="goes away"):
        await upload(api, parts(1, broken=True))

    await emptied(imports)
    assert (await api.call("GET", "../jobs"))[1]["items"] == []


async def test_a_cancelled_import_and_an_old_export_go(api: Api, imports: Path) -> None:
    """The file of an import that is cancelled before its turn goes; so do exports, by request or after a week."""
    jobs = api.http.server.app[JOBS]  # type: ignore[union-attr]
    name = "upload-0123456789abcdef.csv"
    exports = imports.with_name("exports")
    for folder in (imports, exports):
        folder.mkdir(parents=True, exist_ok=True)
    (imports / name).write_text("series,at_ms,value\n")
    document = {"kind": "import", "not_before_ms": clock.now_ms() + 60_000}
    job = orjson.loads(await jobs._functions.call("job_submit", "history", document, f'{{"file":"{name}"}}'))
    assert (await api.call("POST", f"../jobs/{job['id']}/cancel"))[0] == 200
    await emptied(imports)
    for name in ("a.csv", "b.csv"):
        (exports / name).touch()
    assert (await api.call("DELETE", "exports/a.csv", raw=True))[0] == 204
    assert (await api.call("DELETE", "exports/a.csv"))[0] == 404
    os.utime(exports / "b.csv", (0, 0))
    api.http.server.app[TRANSFER].tidy()  # type: ignore[union-attr]
    await emptied(exports)


async def test_files_are_the_work_of_threads(api: Api, tmp_path: Path) -> None:
    """A slow disk must not stop what else the service does: the consumer, other requests."""
    with files_on_the_loop(tmp_path / "data") as found:
        (tmp_path / "data" / "seen").mkdir()
        assert found.pop().startswith("os.mkdir")
        _, job = await upload(api, b"series,at_ms,value\ncomsrv:1:T:1,5,1\n")
        assert (await ended(api, job))["state"] == "done"
        _, job = await api.call("POST", "export", {"format": "csv"})
        file = (await ended(api, job))["result"]["file"]
        assert (await api.call("GET", f"exports/{file}", raw=True))[0] == 200
        assert (await api.call("DELETE", f"exports/{file}", raw=True))[0] == 204
        assert found == []
