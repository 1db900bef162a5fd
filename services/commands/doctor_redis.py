"""Checks of `voltage doctor` that ask Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from libs.clock import now_ms
from libs.redis import bundle, keys
from libs.redis.resp import Connection, ReplyError, information
from libs.redis.server import probe
from libs.site import Site
from services.commands.findings import LOADER, Finding, level

FULL_PERCENT: Final = 80
CRITICAL_PERCENT: Final = 95
MAX_AHEAD_MS: Final = 2000
# What the process image counts on, and why.
SETTINGS: Final = {
    "maxmemory-policy": ("noeviction", "another policy throws live values away"),
    "appendonly": ("yes", "without it a restart of Redis forgets the site"),
    "hash-max-listpack-entries": ("32", "large hashes as listpacks make each poll up to 36 times slower"),
}


def check_redis(site: Site) -> Iterator[Finding]:
    """Is Redis there, and new enough?"""
    yield Finding("redis", "ok", probe(site.redis_url()))


def check_redis_settings(site: Site) -> Iterator[Finding]:
    """Is it set as the process image needs it?"""
    with Connection(site.redis_url()) as connection:
        wrong = []
        try:
            for name, (wanted, why) in SETTINGS.items():
                found = connection.call("CONFIG", "GET", name)
                value = found[1].decode() if found else ""
                larger = name.startswith("hash-max") and value.isdigit() and int(value) <= int(wanted)
                if value != wanted and not larger:
                    wrong.append(f"{name} is {value or 'unknown'}, not {wanted}: {why}")
            if connection.call("CONFIG", "GET", "maxmemory")[1:] == [b"0"]:
                wrong.append("maxmemory is 0: Redis may take all of the machine's memory")
        except ReplyError as error:
            yield Finding("redis_settings", "warning", f"can't be read: {error}", "let this user run CONFIG GET")
            return
    remedy = "set it in redis.conf, or with: voltage redis CONFIG SET NAME VALUE"
    yield from (Finding("redis_settings", "warning", text, remedy) for text in wrong)
    if not wrong:
        yield Finding("redis_settings", "ok", "policy, persistence and encoding fit")


def check_memory(site: Site) -> Iterator[Finding]:
    """Is there room?"""
    with Connection(site.redis_url()) as connection:
        found = information(connection, "memory")
    used, limit = int(found.get("used_memory", 0)), int(found.get("maxmemory", 0))
    if not limit:
        yield Finding("memory", "ok", f"{used >> 20} MB used, no bound")
        return
    percent = 100 * used // limit
    state = level(percent, FULL_PERCENT, CRITICAL_PERCENT)
    remedy = "raise VOLTAGE_REDIS_MAXMEMORY; see what is large: voltage redis MEMORY STATS"
    yield Finding("memory", state, f"{used >> 20} of {limit >> 20} MB, {percent} %", "" if state == "ok" else remedy)


def check_persistence(site: Site) -> Iterator[Finding]:
    """Would a crash lose more than two seconds?"""
    with Connection(site.redis_url()) as connection:
        found = information(connection, "persistence")
    if found.get("aof_enabled") != "1":
        yield Finding("persistence", "warning", "append-only file is off", "set appendonly yes")
    elif found.get("aof_last_write_status") != "ok" or found.get("aof_last_bgrewrite_status") != "ok":
        detail = "the last write of the append-only file failed"
        yield Finding("persistence", "error", detail, "look for a full disk, and at: voltage logs redis")
    else:
        yield Finding("persistence", "ok", "append-only file, written every second")


def check_functions(site: Site) -> Iterator[Finding]:
    """Is the function library loaded, and this program's?"""
    built = bundle.bundle()
    with Connection(site.redis_url()) as connection:
        if not connection.call("FUNCTION", "LIST", "LIBRARYNAME", bundle.LIBRARY):
            yield Finding("functions", "error", "Redis Functions are not loaded; every service waits for them", LOADER)
            return
        digest = json.loads(connection.call("FCALL_RO", "voltage_version", 0))["digest"]
    if digest != built.digest:
        yield Finding("functions", "warning", f"Redis has library {digest}, this program {built.digest}", LOADER)
    else:
        yield Finding("functions", "ok", f"library {digest}")


def check_schema(site: Site) -> Iterator[Finding]:
    """Were the keys written by a version that this one understands?"""
    with Connection(site.redis_url()) as connection:
        stored = connection.call("GET", keys.prefix(site.settings.namespace) + keys.key("schema"))
    if stored is None:
        yield Finding("schema", "warning", "no schema number; nothing was ever started here", LOADER)
    elif int(stored) > keys.SCHEMA:
        yield Finding(
            "schema", "error", f"schema {int(stored)}, this program knows {keys.SCHEMA}", "run a newer voltage"
        )
    elif int(stored) < keys.SCHEMA:
        yield Finding("schema", "warning", f"schema {int(stored)}, to be migrated to {keys.SCHEMA}", LOADER)
    else:
        yield Finding("schema", "ok", f"schema {int(stored)}")


def check_clock(site: Site) -> Iterator[Finding]:
    """Do this machine, Redis and the namespace agree about the time?"""
    with Connection(site.redis_url()) as connection:
        seconds, micros = connection.call("TIME")
        simulated, last = connection.call(
            "HMGET", keys.prefix(site.settings.namespace) + keys.key("clock"), "simulation", "last"
        )
    redis_ms = int(seconds) * 1000 + int(micros) // 1000
    off = redis_ms - now_ms()
    ahead = 0 if simulated == b"1" else int(last or 0) - redis_ms
    if abs(off) > MAX_AHEAD_MS:
        remedy = "synchronize both clocks (chrony, systemd-timesyncd)"
        yield Finding("clock", "error", f"Redis' clock is {off / 1000:+.1f} s off this machine's", remedy)
    elif ahead > MAX_AHEAD_MS:
        detail = f"the clock went back {ahead / 1000:.0f} s; timers moved with it, instants wait until it has caught up"
        yield Finding("clock", "warning", detail, "synchronize the clock; it heals by itself")
    else:
        yield Finding("clock", "ok", f"{off:+d} ms to Redis")
