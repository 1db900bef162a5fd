"""A storm of alarms on a whole site; Redis and alarmsrv are killed while it comes in and while escalation runs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import yaml

from libs.redis import client
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.mail import mail_server
from tests.support.processes import Site
from tests.support.wait import wait_until

COUNT: Final = 500
AFTER_S: Final = 12
SOURCE: Final = "modsrv:battery1:state_of_charge"


def configure(site: Site, port: int) -> None:
    """Tell two people by mail, the second when nobody has acknowledged."""
    route = {
        "id": "storm", "tags": ["storm"], "to": ["email:anna@example.com"],
        "escalation": [{"after_s": AFTER_S, "to": ["email:boss@example.com"]}],
    }  # fmt: skip
    email = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "ems@example.com"}
    settings = {"notifications": {"email": email, "routes": [route], "rate": {"quiet_ms": 3000}}}
    (site.config / "alarmsrv.yaml").write_text(yaml.safe_dump(settings))


def charge(site: Site, tenths: int) -> None:
    """Set the simulated battery's state of charge, as another Modbus master would."""
    port = str(site.port_base + 22)
    subprocess.run(
        ["mbpoll", "-0", "-1", "-p", port, "-t", "4", "-r", "104", "127.0.0.1", str(tenths)],
        check=True, capture_output=True,
    )  # fmt: skip


async def journal(functions: Functions) -> list[dict[str, str]]:
    found = await execute(functions.client, "XRANGE", "alarmsrv:journal", "-", "+")
    entries = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]
    return [entry for entry in entries if entry["origin"].startswith("alarm:storm")]


async def test_a_storm_over_kills_is_whole_and_told_once(tmp_path: Path) -> None:
    """Each alarm is journaled once and in order, escalates at its instant, and each person gets one digest."""
    site = Site(tmp_path)
    async with mail_server() as mail:
        configure(site, mail.port)
        try:
            site.start()
            url = site.redis_url()
            gate = client.connect(url)
            functions = Functions(gate)
            for number in range(COUNT):
                definition = {
                    "source": SOURCE, "detector": "Lo", "limit": 40 + number / 1000, "level": "Major",
                    "message": f"Storm {number}", "tags": ["storm"], "set": f"s{number}",
                }  # fmt: skip
                await functions.call("alarm_define", f"storm{number}", definition)

            async def raised(least: int) -> bool:
                return sum(entry["event"] == "raised" for entry in await journal(functions)) >= least

            charge(site, 390)
            await wait_until(lambda: raised(1), "the storm begins")
            killed = {name: site.pid(name) for name in ("alarmsrv", "redis")}
            for pid in killed.values():
                os.kill(pid, signal.SIGKILL)

            async def back() -> bool:
                children = site.children()
                return all(children.get(name, pid) != pid for name, pid in killed.items())

            await wait_until(back, "both were started again", 20)
            await gate.aclose()
            gate = client.connect(url)
            functions = Functions(gate)

            async def answers() -> bool:
                try:
                    return await raised(COUNT)
                except Exception:  # noqa: BLE001 - Redis is on its way
                    return False

            await wait_until(answers, "every alarm was raised", 30)

            async def told() -> bool:
                return bool(mail.of("boss@example.com")) and int(await execute(gate, "XLEN", "alarmsrv:outbox")) == 0

            await wait_until(told, "the boss was told", 60)
            entries = await journal(functions)
            begun = {e["alarm"]: int(e["at_ms"]) for e in entries if e["event"] == "raised"}
            late = [(e["alarm"], int(e["at_ms"]) - begun[e["alarm"]]) for e in entries if e["event"] == "escalated"]
            assert len(begun) == COUNT
            assert sorted(late) == sorted((alarm, AFTER_S * 1000) for alarm in begun)
            numbers = [int(entry["number"]) for entry in entries]
            assert numbers == sorted(set(numbers))
            assert [len(mail.of(f"{one}@example.com")) for one in ("anna", "boss")] == [1, 1]
            assert f"{COUNT} alarms" in mail.of("anna@example.com")[0]["Subject"]
            verified = site.voltage("audit", "verify")
            assert (verified.returncode, "whole; head" in verified.stdout) == (0, True), verified
            await gate.aclose()
        finally:
            site.stop()
