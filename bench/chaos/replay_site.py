"""The site of the replay's chaos run: rules and alarms by the dozen, operators, and a device that goes bad."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from tests.support.processes import Api, Site

DAY_MINUTES: Final = 1440
RULES: Final = 60
DEFINITIONS: Final = 40
CHANNELS: Final = (1001, 1002, 1003, 1004, 1005)
BATTERY: Final = 1003
# Whose link goes over the relay.
BAD: Final = "base+21"
LEVELS: Final = ("Critical", "Major", "Minor", "Warning", "Info")


class Relay:
    """Stands between comsrv and a device; while it is `bad` it spoils, holds back or breaks off what it passes on."""

    def __init__(self, port: int, seed: int) -> None:
        """Lead to a port."""
        self._port = port
        self._dice = random.Random(seed)
        self.bad = False
        self.spoiled = 0

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop listening."""
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far, near = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, near, spoils=False))
            group.create_task(self._pass(far, writer, spoils=True))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, spoils: bool) -> None:
        try:
            while data := await reader.read(4096):
                if spoils and self.bad:
                    self.spoiled += 1
                    how = self._dice.randrange(4)
                    if how == 0:
                        break
                    if how == 1:
                        continue
                    if how == 2:
                        data = self._dice.randbytes(len(data))
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


def configure(folder: Path, minutes: float, relay: int) -> None:
    """Let the day last so many minutes, and lead one channel over the relay."""
    path = folder / "simulate.yaml"
    acceleration = max(1, round(DAY_MINUTES / minutes))
    path.write_text(path.read_text().replace("acceleration: 60", f"acceleration: {acceleration}"))
    path = folder / "comsrv.yaml"
    path.write_text(path.read_text().replace(BAD, str(relay)))


async def points(api: Api) -> list[tuple[str, float]]:
    """Return the telemetry of the site with its values."""
    found = []
    for channel in CHANNELS:
        reply = await api("GET", f"/api/channels/{channel}/points?type=T&limit=500")
        items = [one for one in reply.body["items"] if one.get("value") is not None]
        found += [(f"comsrv:{channel}:T:{one['id']}", float(one["value"])) for one in items]
    return found


def rule(number: int, source: str, value: float, step: float = 0.0) -> dict[str, Any]:
    """Return rule number `number` on a point that is worth `value` now; of each kind by turns."""
    limit = value * 1.01 + step if value else 0.5
    leaf: dict[str, Any] = {"source": source, "operator": "<" if number % 2 else ">", "value": limit}
    kind = number % 5
    if kind == 1:
        leaf["for_ms"] = 1500
    elif kind == 2:
        leaf["hysteresis"] = abs(limit) / 100
    elif kind == 3:
        leaf |= {"aggregate": "mean", "window_ms": 10_000}
    elif kind == 4:
        leaf = {"source": source, "operator": "rising", "within_ms": 2000}
    conditions: Any = [leaf]
    if number % 3 == 0:
        window = {"time": {"zone": "Europe/Berlin", "from": "00:00", "to": "24:00"}}
        conditions = {"any": [{"all": [leaf, window]}, {"not": dict(leaf)}]} if number % 2 else {"all": [leaf, window]}
    params = {"title": f"rule {number}: {{value:1}}", "level": LEVELS[number % 5]}
    actions: list[dict[str, Any]] = [{"type": "create_alarm", "params": params}]
    if number % 10 == 7:
        target = {"target": f"comsrv:{BATTERY}:A:1", "value": number % 50}
        actions.append({"type": "command", "params": target})
    return {
        "id": f"chaos{number}", "name": f"chaos {number}", "conditions": conditions, "actions": actions,
        "priority": number % 7, "cooldown_ms": 2000 if kind == 4 else 0,
    }  # fmt: skip


def definition(number: int, source: str, value: float) -> dict[str, Any]:
    """Return alarm definition number `number`."""
    detectors: list[dict[str, Any]] = [
        {"detector": "Hi", "limit": value + abs(value) / 50 + 0.1, "deadband": abs(value) / 200},
        {"detector": "Lo", "limit": value - abs(value) / 50 - 0.1, "on_delay_ms": 1000, "off_delay_ms": 1500},
        {"detector": "Rate", "limit": abs(value) / 20 + 0.1, "window_ms": 5000},
        {"detector": "Stuck", "limit": 20_000},
        {"detector": "NoData", "limit": 4000},
        {"detector": "Quality"},
    ]
    named = {"id": f"chaosd{number}", "source": source, "level": LEVELS[number % 5], "message": "{value:2} of {source}"}
    return named | detectors[number % len(detectors)]


async def define(api: Api, dice: random.Random) -> dict[str, dict[str, Any]]:
    """Create the rules and definitions; return the rules."""
    found = await points(api)
    rules = {}
    for number in range(RULES):
        source, value = found[number % len(found)]
        document = rule(number, source, value)
        await accepted(api, "POST", "/api/rules", document)
        rules[document["id"]] = document
    for number in range(DEFINITIONS):
        source, value = dice.choice(found)
        await accepted(api, "POST", "/api/alarm-definitions", definition(number, source, value))
    return rules


async def accepted(api: Api, method: str, path: str, body: Any) -> Any:
    """Ask for what must not be refused."""
    reply = await api(method, path, body)
    if reply.status >= 300:
        raise SystemExit(f"{method} {path}: {reply.status} {reply.body}")
    return reply.body


class Operators:
    """Do what operators do, at random; what is refused is refused."""

    def __init__(self, api: Api, dice: random.Random) -> None:
        """Keep the dice."""
        self._api = api
        self._dice = dice
        self.done = 0
        self.refused = 0

    async def act(self) -> None:
        """Do one thing."""
        dice, api = self._dice, self._api
        listed = await api("GET", "/api/alarms?active=true&limit=50")
        alarms = listed.body["items"] if listed.status == 200 else []
        alarm = dice.choice(alarms)["id"] if alarms else "none"
        number = dice.randrange(RULES)
        acts: list[Callable[[], Awaitable[Any]]] = [
            lambda: api("POST", f"/api/alarms/{alarm}/acknowledge", {"comment": "seen"}),
            lambda: api("POST", f"/api/alarms/{alarm}/shelve", {"duration_ms": 30_000, "comment": "noisy"}),
            lambda: api("POST", f"/api/alarms/{alarm}/unshelve", {}),
            lambda: api("POST", f"/api/alarms/{alarm}/resolve", {}),
            lambda: api("POST", "/api/alarms", {"title": "by hand", "level": "Info"}),
            lambda: api(
                "POST", f"/api/channels/{BATTERY}/commands", {"type": "A", "point": 1, "value": dice.randrange(-40, 90)}
            ),
            lambda: api("POST", f"/api/rules/chaos{number}/disable", {}),
            lambda: api("POST", f"/api/rules/chaos{number}/enable", {}),
        ]
        reply = await dice.choice(acts)()
        self.done += 1
        self.refused += reply.status >= 300


def crash(site: Site, name: str) -> None:
    """Kill -9 a service; `voltage up` starts it again."""
    os.kill(site.pid(name), signal.SIGKILL)
