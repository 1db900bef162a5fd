"""A network stops, whatever its session was doing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.netsrv.disk_queue import DiskQueue
from services.netsrv.link import Link
from services.netsrv.networks import Running
from services.netsrv.schemas import Network
from services.netsrv.settings import NetworkSecret


class Waiting(Link):
    """A link whose session waits as the MQTT library does: Python 3.11 loses a cancellation with the result."""

    answers: asyncio.Queue[asyncio.Future[None]]

    async def session(self) -> None:
        while True:
            answer = asyncio.get_running_loop().create_future()
            self.answers.put_nowait(answer)
            await asyncio.wait_for(answer, 60)


async def test_it_stops_though_its_session_lost_the_cancellation(tmp_path: Path):
    queue = DiskQueue(tmp_path / "b.db", 1_000_000)
    await queue.open()
    network = Network(id="b", type="mqtt", host="127.0.0.1")
    link = Waiting(network, NetworkSecret(), queue)
    link.answers = asyncio.Queue()
    running = Running(network, queue, link)
    running.task = asyncio.create_task(link.run())
    (await link.answers.get()).set_result(None)
    await asyncio.wait_for(running.stop(), 30)
    assert running.task is None
    await queue.close()
