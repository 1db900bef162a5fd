"""Children: they live and die with us, come back when they fail, and keep bounded logs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.errors import ConflictError
from libs.processes.lock import holder, site_lock
from services.supervisor import child as child_module
from services.supervisor.child import Child
from services.supervisor.health import Health
from services.supervisor.keeper import Keeper, RefusedError
from tests.support.wait import wait_until

PARENT = """
import asyncio, os, sys
from pathlib import Path
from services.supervisor.child import Child

async def main():
    child = Child("sleeper", ["sleep", "600"], os.environ, Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


def runs(pid: int) -> bool:
    """Say whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def sleeper(folder: Path, *command: str) -> Child:
    return Child("sleeper", command or ("sleep", "600"), os.environ, folder)


@asynccontextmanager
async def kept(keeper: Keeper) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(keeper.run())
    try:
        yield task
    finally:
        await keeper.stop(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_child_dies_with_its_parent_even_on_kill_9(tmp_path: Path):
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    pid = int(await parent.stdout.readline())
    await wait_until(lambda: _true(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n"), "the child runs")
    parent.kill()
    await parent.wait()
    await wait_until(lambda: _true(lambda: not runs(pid)), "the child is gone")


async def test_a_child_that_dies_is_started_again(tmp_path: Path):
    said: list[str] = []
    keeper = Keeper(sleeper(tmp_path), None, said.append)
    async with kept(keeper):
        await asyncio.wait_for(keeper.ready.wait(), 5)
        first = keeper.child.pid
        keeper.child.send(signal.SIGKILL)
        await wait_until(lambda: _true(lambda: keeper.restarts == 1 and keeper.ready.is_set()), "it is back")
        assert keeper.child.pid != first
    assert "was ended by SIGKILL" in said[0]


async def test_a_child_that_stops_answering_is_killed_and_started_again(tmp_path: Path):
    said: list[str] = []
    gone = Health(alive=False, ready=False, detail="no answer")
    answers = iter([Health(alive=True, ready=True, detail=""), gone, gone, gone])

    async def check() -> Health:
        return next(answers, Health(alive=True, ready=True, detail=""))

    keeper = Keeper(sleeper(tmp_path), check, said.append)
    async with kept(keeper):
        await wait_until(lambda: _true(lambda: keeper.restarts == 1 and keeper.ready.is_set()), "it is back", 15)
    assert said[0] == "sleeper is not ready: no answer"
    assert "missed 3 health probes" in said[1]


async def test_a_child_that_refuses_its_configuration_is_not_tried_again(tmp_path: Path):
    keeper = Keeper(sleeper(tmp_path, "sh", "-c", "echo 'comsrv.yaml:3: unknown key'; exit 78"), None, lambda _: None)
    with pytest.raises(RefusedError, match=r"sleeper refuses to start:\ncomsrv\.yaml:3: unknown key"):
        await keeper.run()


async def test_a_refusal_says_why_and_nothing_of_earlier_runs(tmp_path: Path):
    """Of what a service logs that is what is critical."""
    (tmp_path / "sleeper.log").write_text("rules/old.yaml:1: was wrong last week\n" * 9)
    lines = [
        '{"time": "2026-01-01T00:00:00.000Z", "level": "info", "message": "listening"}',
        '{"time": "2026-01-01T00:00:01.000Z", "level": "critical", "message": "a.yaml:3: limit\\nb.yaml:1: text"}',
        '{"time": "2026-01-01T00:00:02.000Z", "level": "warning", "message": "a task was left"}',
    ]
    (tmp_path / "said").write_text("".join(f"{line}\n" for line in lines))
    keeper = Keeper(sleeper(tmp_path, "sh", "-c", f"cat {tmp_path}/said; exit 78"), None, lambda _: None)
    with pytest.raises(RefusedError) as caught:
        await keeper.run()
    assert str(caught.value) == "sleeper refuses to start:\na.yaml:3: limit\nb.yaml:1: text"


async def test_a_child_that_ignores_the_request_is_ended_by_force(tmp_path: Path):
    child = sleeper(tmp_path, "sh", "-c", "trap '' TERM; echo trapped; while :; do read nothing < /dev/zero; done")
    await child.start()
    await wait_until(lambda: _true(lambda: child.last_lines() == ["trapped"]), "the trap is set")
    await child.stop(0.1)
    assert child.pid is None


async def test_a_log_is_cut_before_it_grows_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child_module, "LOG_BYTES", 10)
    child = sleeper(tmp_path)
    child.log.write_text("twelve bytes")
    child.rotate()
    assert child.log.read_text() == ""
    assert (tmp_path / "sleeper.log.1").read_text() == "twelve bytes"


def test_a_data_directory_has_one_voltage_up_and_the_second_is_told_who(tmp_path: Path):
    with site_lock(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(ConflictError, match=rf"process {os.getpid()}\).*VOLTAGE_DATA_DIR"), site_lock(tmp_path):
            pass
    assert holder(tmp_path) is None
    with site_lock(tmp_path):
        pass


async def _true(condition: Callable[[], bool]) -> bool:
    return condition()
