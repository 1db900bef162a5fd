"""The memory of Lua: what calls take is given back, by small readers and writers as by large ones."""

from __future__ import annotations

from libs.redis.client import execute
from tests.support.site import Site

HOT = {"source": "comsrv:1001:T:1", "detector": "Hi", "limit": 80, "level": "Warning", "message": "hot"}


async def memory(site: Site) -> int:
    """Return what Lua holds for functions, in bytes."""
    return int((await site.functions.client.info("memory"))["used_memory_vm_functions"])


async def peak(site: Site, calls: int, step: int) -> int:
    """Poll 400 points again and again, each time with other values; return the most that Lua held."""
    highest = 0
    for number in range(calls):
        site.now += 10
        await site.put({point: step * number + point for point in range(1, 401)})
        if number % 10 == 0:
            highest = max(highest, await memory(site))
    return highest


async def test_memory_of_polls_is_bounded(site: Site) -> None:
    for number in range(200):
        await site.functions.call("alarm_define", f"d{number}", {**HOT, "source": f"comsrv:1001:T:{number % 400 + 1}"})
    assert await peak(site, 1000, 1) < 40_000_000, "uncollected it is a hundred"


async def test_large_readers_pay_for_what_they_take(site: Site) -> None:
    """A list of 1,000 takes megabytes: were they left, a hundred of them would be seen."""
    for number in range(1000):
        await site.functions.call("store_alarm", f"a{number}", {"title": "t" * 200, "level": "Minor", "source": "s"})
    for _ in range(200):
        await site.functions.read_json("query_alarms", None, {"limit": 1000})
    assert await memory(site) < 30_000_000


async def test_the_collector_outlasts_a_library_that_is_loaded_anew(site: Site) -> None:
    """Each library begins with the collector of the one before, that stands still between calls."""
    (found,) = await execute(site.functions.client, "FUNCTION", "LIST", "LIBRARYNAME", "voltage", "WITHCODE")
    held = []
    for _ in range(12):
        await execute(site.functions.client, "FUNCTION", "LOAD", "REPLACE", found[b"library_code"])
        await peak(site, 60, 1)
        held.append(await memory(site))
    assert max(held) < 45_000_000


async def test_arguments_and_other_libraries_are_paid_for(site: Site) -> None:
    """What is taken outside of our calls, too: texts of arguments, and tables of a library of another name."""
    client = site.functions.client
    other = """#!lua name=other
    redis.register_function("other_tables", function()
      local all = {}
      for i = 1, 5000 do all[i] = { i } end
      return #all
    end)"""
    await execute(client, "FUNCTION", "LOAD", "REPLACE", other)
    for number in range(300):
        await execute(client, "FCALL", "voltage_version", 0, f"{number}{'x' * 500_000}")
        await execute(client, "FCALL", "other_tables", 0)
    held = await memory(site)
    await execute(client, "FUNCTION", "DELETE", "other")
    assert held < 60_000_000
