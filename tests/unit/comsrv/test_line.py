"""The line: one at a time, commands first, and nobody lost when a waiter goes away."""

from __future__ import annotations

import asyncio

from services.comsrv.line import Line


class Queue:
    """Jobs that note when they have the line, and keep it until they are told."""

    def __init__(self) -> None:
        self.line = Line()
        self.order: list[str] = []
        self.release: dict[str, asyncio.Event] = {}

    async def job(self, name: str) -> None:
        event = self.release[name] = asyncio.Event()
        turn = self.line.for_command() if name.startswith("command") else self.line.for_poll()
        async with turn:
            self.order.append(name)
            await event.wait()

    async def start(self, *names: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.job(name)) for name in names]
        await asyncio.sleep(0)
        return tasks


async def test_a_command_that_came_later_goes_before_the_polls_that_wait():
    queue = Queue()
    tasks = await queue.start("poll 1", "poll 2", "poll 3", "command")
    for event in queue.release.values():
        event.set()
    await asyncio.gather(*tasks)
    assert queue.order == ["poll 1", "command", "poll 2", "poll 3"]
    assert not queue.line.taken


async def test_one_has_the_line_at_a_time():
    queue = Queue()
    tasks = await queue.start("poll 1", "poll 2")
    assert queue.order == ["poll 1"]
    queue.release["poll 1"].set()
    await tasks[0]
    await asyncio.sleep(0)
    assert queue.order == ["poll 1", "poll 2"]
    queue.release["poll 2"].set()
    await tasks[1]


async def test_a_waiter_that_is_cancelled_holds_nobody_up():
    queue = Queue()
    first, gone, last = await queue.start("poll 1", "poll 2", "poll 3")
    gone.cancel()
    queue.release["poll 1"].set()
    queue.release["poll 3"].set()
    await asyncio.gather(first, gone, last, return_exceptions=True)
    assert queue.order == ["poll 1", "poll 3"]
    assert not queue.line.taken


async def test_a_turn_that_comes_together_with_a_cancellation_is_handed_on():
    queue = Queue()
    first, gone, last = await queue.start("poll 1", "poll 2", "poll 3")
    queue.line.give()
    gone.cancel()
    queue.release["poll 3"].set()
    await asyncio.gather(gone, last, return_exceptions=True)
    assert queue.order == ["poll 1", "poll 3"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
