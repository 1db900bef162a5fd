"""Checks of `voltage doctor` that look at the machine and ask the services."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from libs.errors import UnavailableError
from libs.processes.lock import holder
from libs.services import BY_NAME, SERVICES
from libs.site import Site
from services.commands.api import pages, request
from services.commands.examination import examine_site
from services.commands.findings import Finding, ask, level
from services.commands.networks import state_of

DISK_PERCENT: Final = 90
DISK_CRITICAL_PERCENT: Final = 95
MAX_SHOWN: Final = 10
MAX_ITEMS: Final = 100_000
OLD_PENDING: Final = 10_000


def check_configuration(site: Site) -> Iterator[Finding]:
    """Is every file and variable right?"""
    found = examine_site()
    for problem in found.problems:
        yield Finding("configuration", "error", str(problem), "correct it; voltage config check lists all of them")
    if found.untried:
        detail = f"what only the functions know was not checked: {found.untried}"
        yield Finding("configuration", "warning", detail, "install a Redis or Valkey server here")
    elif not found.problems:
        yield Finding("configuration", "ok", f"files in {site.config_dir}")


def check_ports(site: Site) -> Iterator[Finding]:
    """Does each service answer where it should, and nobody else?"""
    down = []
    for service in SERVICES:
        url = site.settings.service_url(service.name)
        answer = ask(url + "/health")
        name = (answer.document or {}).get("service") if answer else None
        if answer is None:
            down.append(f"{service.name} ({url})")
        elif name != service.name:
            what = f"the service {name}" if name else "another program"
            detail = f"port already in use: {what} answers at {url}, where {service.name} should"
            yield Finding("ports", "error", detail, "stop it (ss -ltnp shows which), or set VOLTAGE_PORT_BASE")
        elif answer.status != 200:
            # Of the gateway's reasons those that are another service's stand with that service.
            failed = (answer.document or {}).get("failed", {})
            failed = {what: why for what, why in failed.items() if what not in BY_NAME}
            if not failed and service.name == "gateway":
                yield Finding("ports", "ok", f"gateway at {url}")
                continue
            reasons = "; ".join(f"{what}: {why}" for what, why in failed.items())
            yield Finding("ports", "warning", f"{service.name} is not ready: {reasons}", f"voltage logs {service.name}")
        else:
            yield Finding("ports", "ok", f"{service.name} at {url}")
    if down:
        yield from _ended(site)
        yield Finding("ports", "error", f"nothing listens for {', '.join(down)}", _start(site))


def _ended(site: Site) -> Iterator[Finding]:
    """Say why `voltage up` ended by itself, where it did."""
    try:
        at, said = site.last_words.stat().st_mtime, site.last_words.read_text()
    except FileNotFoundError:
        return
    ended = datetime.fromtimestamp(at, UTC).astimezone().isoformat(" ", "seconds")
    yield Finding("start", "error", f"voltage up ended at {ended}: {said}", "correct it, then: voltage up")


def _start(site: Site) -> str:
    running = holder(site.data_dir)
    return "voltage up starts everything" if running is None else "voltage up runs; its output and voltage logs say why"


def check_devices(_: Site) -> Iterator[Finding]:
    """Is every channel connected and every point good?"""
    channels = pages("/api/channels", {}, MAX_ITEMS)
    if not channels:
        yield Finding("devices", "warning", "no channels, so no data in Redis", "configure some: config/comsrv.yaml")
    for channel in channels:
        label = f"channel {channel['id']} ({channel['name']})"
        if not channel["enabled"]:
            yield Finding("devices", "ok", f"{label} is switched off")
        elif channel["state"] != "running":
            yield silent(channel, label)
        else:
            yield from _points(channel, label)


def silent(channel: dict[str, Any], label: str) -> Finding:
    """Say why a channel brings nothing: stopped, or its device does not answer."""
    if channel["state"] == "stopped" and not channel.get("last_error"):
        remedy = f"start it: POST /api/channels/{channel['id']}/start"
        return Finding("devices", "warning", f"{label} is stopped, no new data in Redis", remedy)
    reason = channel.get("last_error") or "no answer yet"
    remedy = f"check cable, address and unit id; voltage logs comsrv; /api/channels/{channel['id']}/diagnostics"
    return Finding("devices", "error", f"{label} is {channel['state']}, no new data in Redis: {reason}", remedy)


def _points(channel: dict[str, Any], label: str) -> Iterator[Finding]:
    points = pages(f"/api/channels/{channel['id']}/points", {}, MAX_ITEMS)
    bad = [point for point in points if point["type"] in {"T", "S"} and point["quality"] != "good"]
    if channel["protocol"] == "virtual":
        # These wait for somebody to set them.
        bad = [point for point in bad if point["quality"] != "bad:no_value"]
    if not bad:
        yield Finding("devices", "ok", f"{label}: {len(points)} points")
        return
    shown = ", ".join(f"{point['type']}:{point['id']} {point['quality'] or 'no value'}" for point in bad[:MAX_SHOWN])
    remedy = f"compare its tables with the device's manual: voltage points plan {channel['id']}"
    yield Finding("devices", "warning", f"{label}: {len(bad)} of {len(points)} points are not good: {shown}", remedy)


def check_rules(_: Site) -> Iterator[Finding]:
    """Can every rule decide?"""
    rules = pages("/api/rules/evaluations", {}, MAX_ITEMS)
    on = [rule for rule in rules if rule["enabled"]]
    yield from (finding for rule in on if (finding := undecided(rule)))
    yield from unfounded(rule for rule in pages("/api/rules", {}, MAX_ITEMS) if rule["enabled"])
    well = sum(rule["result"] is not None for rule in on)
    off = len(rules) - len(on)
    yield Finding("rules", "ok", f"{well} of {len(rules)} rules can decide, {off} are switched off")


def undecided(rule: dict[str, Any]) -> Finding | None:
    """Say what a rule waits for that can't decide; a source that does not exist is an error of the rule."""
    unknown = [one for one in rule["conditions"] if one["result"] is None]
    absent = [one for one in unknown if not one.get("exists", True)]
    if rule["result"] is not None and not absent:
        return None
    shown = ", ".join(
        f"{one.get('source', one['path'])} ({one.get('missing', one.get('quality'))})" for one in absent or unknown
    )
    if absent:
        remedy = "a source is comsrv:<channel>:<T|S|C|A>:<point> or modsrv:<model>:<point>, and must exist"
        return Finding("rules", "error", f"rule {rule['rule']}: no such data source: {shown}", remedy)
    remedy = f"see devices, and: voltage rules explain {rule['rule']}"
    return Finding("rules", "warning", f"rule {rule['rule']} waits for good inputs: {shown}", remedy)


def unfounded(rules: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """Name what actions would be refused for, before they fire; a source that is missing is no matter of actions."""
    for rule in rules:
        named = [text for text in rule.get("warnings", ()) if text.startswith("actions")]
        if named:
            detail = f"rule {rule['id']} can't act: {'; '.join(named)}"
            yield Finding("rules", "warning", detail, "add what it names, or correct the rule")


def check_alarms(_: Site) -> Iterator[Finding]:
    """Is there what alarm definitions watch, and is everybody told?"""
    definitions = pages("/api/alarm-definitions", {}, MAX_ITEMS)
    yield from unwatched(definitions)
    yield from untold(request("/api/alarms/outbox"))
    routes = len(pages("/api/alarm-routes", {}, MAX_ITEMS))
    yield Finding("alarms", "ok", f"{len(definitions)} alarm definitions, {routes} routes of notification")


def unwatched(definitions: list[dict[str, Any]]) -> Iterator[Finding]:
    """Name the alarm definitions whose points do not exist; of many the first."""
    lost = [one for one in definitions if one.get("warnings") and one.get("enabled") is not False]
    remedy = "correct the definition, or add the point"
    for one in lost[:MAX_SHOWN]:
        yield Finding("alarms", "warning", f"alarm definition {one['id']}: {'; '.join(one['warnings'])}", remedy)
    if len(lost) > MAX_SHOWN:
        yield Finding(
            "alarms", "warning", f"{len(lost) - MAX_SHOWN} more alarm definitions name what does not exist", remedy
        )


def untold(outbox: dict[str, Any]) -> Iterator[Finding]:
    """Name the recipients that messages do not reach, and messages that were given up."""
    for target in outbox["targets"]:
        if target["last_error"]:
            detail = f"{target['target']} is not told: {target['last_error']}; messages that wait: {target['waiting']}"
            remedy = "check notifications in config/alarmsrv.yaml, and try it: voltage alarms notify-test ROUTE"
            yield Finding("alarms", "warning", detail, remedy)
    if letters := outbox["dead_letters"]:
        remedy = "see why: GET /api/alarms/outbox/dead-letters; send again: POST .../retry"
        yield Finding("alarms", "warning", f"messages to people that were given up: {letters}", remedy)


def check_history(_: Site) -> Iterator[Finding]:
    """Is history written, and where?"""
    remedy = "voltage logs hissrv; for InfluxDB check VOLTAGE_INFLUXDB_URL, _API, _TOKEN, _ORG and _BUCKET of hissrv"
    try:
        status = request("/api/history/status")
    except UnavailableError as error:
        yield Finding("history", "error", f"historical data is missing: {error}", remedy)
        return
    store, queue, consumer = status["store"], status["queue"], status["consumer"]
    kind = store.get("kind", "store")
    aside = "; InfluxDB is not configured and not needed" if kind == "embedded" else ""
    if consumer.get("problem"):
        yield Finding("history", "error", f"historical data is not written: {consumer['problem']}", remedy)
    elif queue["samples"] > OLD_PENDING:
        detail = f"{queue['samples']} samples wait to be written"
        yield Finding("history", "warning", detail, "voltage logs hissrv; they are kept meanwhile")
    else:
        yield Finding("history", "ok", f"store {kind}, {store.get('series', '?')} series{aside}")
    if queue["dead_letters"]:
        detail = f"{queue['dead_letters']} samples were refused by the store"
        yield Finding("history", "warning", detail, "see why: GET /api/history/dead-letters")
    if unmatched := consumer.get("unmatched_mappings"):
        remedy = "correct their source: GET /api/history/mappings"
        yield Finding("history", "warning", f"mappings that match no point: {', '.join(unmatched)}", remedy)


def check_networks(_: Site) -> Iterator[Finding]:
    """Does what is forwarded reach its network?"""
    networks = pages("/api/networks", {}, MAX_ITEMS)
    for network in networks:
        status = state_of(network["id"])
        label = f"network {network['id']} is {status['state']}"
        if status["state"] == "away":
            waiting = f"{status['queue']['messages']} messages wait"
            remedy = "check address, credentials and the way out; what waits is kept on disk: voltage networks"
            yield Finding("networks", "warning", f"{label}: {status['last_error']}; {waiting}", remedy)
        else:
            yield Finding("networks", "ok", label)
        if letters := status["dead_letters"]:
            remedy = f"see why: voltage networks {network['id']} --dead-letters; then --retry"
            yield Finding("networks", "warning", f"{network['id']} refused {letters} messages for good", remedy)
    if not networks:
        yield Finding("networks", "ok", "none configured")


def check_ledger(_: Site) -> Iterator[Finding]:
    """Is every sample accounted for?"""
    yield from accounted(request("/api/ledger"))


def accounted(ledger: dict[str, Any]) -> Iterator[Finding]:
    """Judge a ledger; what mappings leave out is wanted, the rest that was dropped is lost."""
    samples, history = ledger["samples"], ledger["history"]
    if not ledger["balanced"]:
        detail = f"differs by {samples['difference']} samples polled and {history['difference']} queued"
        rows = [(f"channel {row['channel']}", row["difference"]) for row in ledger["channels"]]
        rows += [(f"store {row['store']}", row["difference"]) for row in ledger["stores"]]
        detail += "".join(f"; {name} by {difference}" for name, difference in rows if difference)
        yield Finding("ledger", "error", detail, "voltage ledger; report it with the logs, it should never be")
    left_out = history["dropped"].get("mapping", 0)
    lost = {reason: count for reason, count in history["dropped"].items() if reason != "mapping"}
    if lost:
        detail = f"history lost {sum(lost.values())} samples: "
        detail += ", ".join(f"{count} {reason}" for reason, count in lost.items())
        yield Finding("ledger", "warning", detail, "see history, memory and disk")
    if ledger["balanced"] and not lost:
        aside = f"; {left_out} are left out by mappings" if left_out else ""
        yield Finding("ledger", "ok", f"{samples['polled']} samples, all accounted for{aside}")


def check_disk(site: Site) -> Iterator[Finding]:
    """Is there room for history and for Redis' file?"""
    folder = site.data_dir if site.data_dir.exists() else site.data_dir.parent
    if not folder.exists():
        yield Finding("disk", "warning", f"{site.data_dir} does not exist yet", "voltage up makes it")
        return
    usage = shutil.disk_usage(folder)
    percent = 100 * usage.used / usage.total
    state = level(percent, DISK_PERCENT, DISK_CRITICAL_PERCENT)
    remedy = "make room, or lower HISSRV_STORE_RETENTION_DAYS; history stops first, control last"
    free = f"{percent:.0f} % full, {usage.free >> 20} MB free"
    yield Finding("disk", state, f"{site.data_dir}: {free}", "" if state == "ok" else remedy)


def check_secrets(site: Site) -> Iterator[Finding]:
    """May others read what only the owner should?"""
    open_to_all = [
        path
        for path in (site.data_dir / "token.key", site.redis_dir / "password", site.data_dir / "gateway.db")
        if path.exists() and path.stat().st_mode & 0o077
    ]
    for path in open_to_all:
        yield Finding("secrets", "error", f"{path} can be read by other users", f"chmod 600 {path}")
    if not open_to_all:
        yield Finding("secrets", "ok", "keys and passwords are the owner's alone")


def check_redis_port(site: Site) -> Iterator[Finding]:
    """Is the port of our own Redis free, or ours?"""
    if site.settings.redis.url or holder(site.data_dir) is not None:
        return
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", site.redis_port)) == 0
    if taken and not (site.redis_dir / "password").exists():
        detail = f"port already in use: something listens on {site.redis_port}, where our Redis should"
        remedy = f"set VOLTAGE_PORT_BASE, or use it: VOLTAGE_REDIS_URL=redis://127.0.0.1:{site.redis_port}"
        yield Finding("ports", "error", detail, remedy)
