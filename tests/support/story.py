"""A day of a site, by seed: rules, alarms, a model, operators, a bad device and a poller that dies."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any, Final

from libs.errors import VoltageError
from libs.redis.functions import Functions
from tests.support.site import Site

POINTS: Final = 20
LEVELS: Final = ("Critical", "Major", "Minor", "Warning", "Info")


def rule(number: int, limit: float = 60) -> dict[str, Any]:
    """Return rule number `number`: with a hold, a hysteresis or a cooldown by turns, some command."""
    leaf: dict[str, Any] = {"source": f"comsrv:1001:T:{number % POINTS + 1}", "operator": ">", "value": limit}
    if number % 6 == 5:
        window = {
            "aggregate": ("mean", "max", "count")[number % 3],
            "window_ms": 10_000 + 1000 * number,
            "coverage": 0.1,
        }
        leaf |= window | ({"value": 3} if window["aggregate"] == "count" else {"value": limit - 10})
    elif number % 6 == 4:
        leaf = {"source": leaf["source"], "operator": "rate", "value": limit / 3, "window_ms": 4000}
    elif number % 3 == 0:
        leaf["for_ms"] = 2000 + 100 * number
    if number % 4 == 0:
        leaf["hysteresis"] = 5
    others: list[dict[str, Any]] = [
        {"time": {"zone": "UTC", "from": f"{number % 12:02d}:00", "to": "20:00"}},
        {"source": f"alarm:d{number}", "operator": "in", "value": ["New", "Acknowledged"]},
        {"source": f"command:1001:A:{number % 4 + 1}", "operator": "==", "value": "pending"},
        {"source": leaf["source"], "operator": ("changed", "rising", "falling")[number % 3], "within_ms": 700},
    ]
    actions: list[dict[str, Any]] = [
        {"type": "create_alarm", "params": {"title": f"rule {number}", "level": LEVELS[number % 4]}}
    ]
    if number % 5 == 0:
        command = {"channel": 1001, "type": "A", "point": number % 4 + 1, "value": number % 100}
        actions.append({"type": "command", "params": command})
    conditions = {"any": [leaf, {"all": [dict(leaf, value=limit + 20), others[number % 4]]}]}
    return {
        "name": f"rule {number}", "conditions": conditions,
        "actions": actions, "priority": number % 10, "cooldown_ms": 3000 if number % 7 == 0 else 0,
    }  # fmt: skip


def definition(number: int) -> dict[str, Any]:
    """Return alarm definition number `number`, of every detector by turns."""
    detectors: list[dict[str, Any]] = [
        {"detector": "Hi", "limit": 70, "deadband": 3},
        {"detector": "Lo", "limit": 20, "on_delay_ms": 1500, "off_delay_ms": 2500},
        {"detector": "Rate", "limit": 25, "window_ms": 8000},
        {"detector": "Stuck", "limit": 9000},
        {"detector": "NoData", "limit": 6000},
        {"detector": "Quality"},
    ]
    document = {"source": f"comsrv:1001:T:{number % POINTS + 1}", "level": LEVELS[number % 5], "message": f"d{number}"}
    return document | detectors[number % len(detectors)]


class Story:
    """Lives a day in steps of some hundred milliseconds; every step is a few calls."""

    def __init__(self, functions: Functions, seed: int, rules: int = 30, definitions: int = 30) -> None:
        """Keep the dice."""
        self.functions = functions
        self.site = Site(functions)
        self.dice = random.Random(seed)
        self.values = dict.fromkeys(range(1, POINTS + 1), 50.0)
        self.rules = rules
        self.definitions = definitions
        self.steps = 0

    async def begin(self) -> None:
        """Define everything."""
        await self.site.start()
        for number in range(self.rules):
            await self.functions.call("rule_upsert", f"r{number}", rule(number))
        for number in range(self.definitions):
            await self.functions.call("alarm_define", f"d{number}", definition(number))

    async def live(self, steps: int) -> None:
        """Let time pass."""
        for _ in range(steps):
            self.steps += 1
            await self._poll()
            if self.dice.random() < 0.3:
                await self._operate()
            if self.dice.random() < 0.5:
                await self.functions.json("voltage_tick", None, {"now_ms": self.site.now})

    async def _poll(self) -> None:
        site = self.site
        site.now += self.dice.choice((100, 250, 500, 1000))
        if self.steps % 40 == 0:
            # The poller died: its lease ends, and another takes the channel.
            await self._taken("test", 1000)
            await site.pass_ms(3100)
            await self._taken("other", 1000)
            await self._taken("test", 1_000_000)
        changed = self.dice.sample(sorted(self.values), 8)
        for point in changed:
            self.values[point] = min(100.0, max(0.0, self.values[point] + self.dice.uniform(-25, 25)))
        bad = {point: "bad:timeout" for point in changed if self.dice.random() < 0.1}
        await site.put({point: self.values[point] for point in changed}, bad)

    async def _taken(self, owner: str, interval_ms: int) -> None:
        site = self.site
        with suppress(VoltageError):
            await self.functions.call("channel_release", 1001, {"epoch": site.epoch, "now_ms": site.now})
        claim = {"owner": owner, "interval_ms": interval_ms, "now_ms": site.now}
        site.epoch = (await self.functions.json("channel_claim", 1001, claim))["epoch"]

    async def _operate(self) -> None:
        """Do what an operator does; what is refused is refused."""
        alarms = await self.site.alarms(limit=20)
        alarm = self.dice.choice(alarms)["id"] if alarms else "none"
        now = {"now_ms": self.site.now}
        number = self.dice.randrange(self.rules)
        value = self.dice.randrange(120)
        command = {"type": "A", "point": 1, "value": value, "source": {"kind": "user", "name": "ann"}, "ttl_ms": 3000}
        acts: list[tuple[str, str | int, list[Any]]] = [
            ("acknowledge_alarm", alarm, ["ann", str(self.site.now)]),
            ("alarm_shelve", alarm, [{"by": "bob", "duration_ms": 60_000, "comment": "noisy"} | now]),
            ("command_submit", 1001, [command | now]),
            ("command_claim", 1001, [{"epoch": self.site.epoch, "limit": 5} | now]),
            ("point_substitute", 1001, [{"type": "T", "point": 3, "value": 42, "by": "ann", "reason": "test"} | now]),
            ("point_restore", 1001, [{"type": "T", "point": 3, "by": "ann"} | now]),
            ("rule_enable", f"r{number}", [self.dice.choice(("true", "false"))]),
            ("alarm_system", None, [{"reporter": "netsrv", "wrong": [{"alarm": "network", "id": "cloud"}]} | now]),
            ("alarm_system", None, [{"reporter": "netsrv", "wrong": []} | now]),
        ]  # fmt: skip
        name, key, arguments = self.dice.choice(acts)
        try:
            await self.functions.call(name, key, *arguments)
        except VoltageError:
            return
