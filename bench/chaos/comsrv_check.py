"""Compare what was stored with what the devices held: the promises of the chaos run."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from bench.chaos.comsrv_site import (
    GATEWAYS,
    INTERVAL_MS,
    SET_POINT,
    STRIDE,
    TIMEOUT_MS,
    telemetry_ids,
)
from services.simulator.registers import Table
from services.simulator.twins.cells import Cell
from services.simulator.twins.log import Log
from services.simulator.twins.unit import Unit

# An answer to the request before the last one is no older.
OLDEST_MS: Final = 2 * TIMEOUT_MS
RECOVERY_MS: Final = 5000
PERIOD_LIMIT: Final = 1.05
EXAMPLES: Final = 5


class Held(NamedTuple):
    """What a device held: its memory by table, from an instant on."""

    at_ms: list[int]
    images: list[dict[str, bytes]]


class Fault(NamedTuple):
    """A fault that happened: to one device, or to all behind a link."""

    unit: str
    of_link: bool
    kind: str
    since_ms: int
    until_ms: int


class Write(NamedTuple):
    """A write that a device saw."""

    at_ms: int
    data: str
    applied: bool


class Devices:
    """The devices' own log, read whole."""

    def __init__(self, log: Log) -> None:
        """Read it."""
        self.held: dict[str, Held] = defaultdict(lambda: Held([], []))
        self.requests: dict[tuple[str, int, int], list[int]] = defaultdict(list)
        self.reads: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        self.faults: list[Fault] = []
        self.writes: dict[str, list[Write]] = defaultdict(list)
        self.cut = 0
        for path in (log.older, log.path):
            if path is not None and path.exists():
                self._read(path)

    def _read(self, path: Path) -> None:
        with path.open("rb") as lines:
            for line in lines:
                entry = orjson.loads(line)
                match entry["e"]:
                    case "step":
                        self._hold(entry)
                    case "write":
                        self._hold(entry)
                        if entry["address"] == SET_POINT:
                            self.writes[entry["d"]].append(Write(entry["t"], entry["data"], entry["applied"]))
                    case "request" if entry["code"] <= 4 and entry["address"] != SET_POINT:
                        self.requests[entry["d"], entry["code"], entry["address"]].append(entry["t"])
                        self.reads[entry["d"]].append((entry["t"], entry["address"], entry["count"]))
                    case "fault":
                        of_link = "/" not in entry["d"]
                        kind, since, until = entry["kind"], entry["from"], entry["until"]
                        self.faults.append(Fault(entry["unit"], of_link, kind, since, until))
                    case "cut":
                        self.cut += entry["lines"]
                    case _:
                        pass

    def images(self, device: str, cell: Cell, at_ms: int) -> list[dict[str, bytes]]:
        """Return what a device held when it was asked last for a point before an instant.

        An answer holds what the device held when the request came. A process without CPU takes it
        late and is right to, so it is the request that counts. Where a request and the taking of an
        answer fall into the same millisecond, it may be the answer to the request before; and where
        a step does, both memories may be meant.
        """
        reads, held = self.reads[device], self.held[device]
        found: list[dict[str, bytes]] = []
        for t, address, count in reversed(reads[: bisect_right(reads, at_ms, key=lambda read: read[0])]):
            if address <= cell.address and cell.address + cell.width <= address + count:
                if found and at_ms - t > OLDEST_MS:
                    break
                first = max(bisect_left(held.at_ms, t) - 1, 0)
                found += held.images[first : bisect_right(held.at_ms, t)]
                if t < at_ms:
                    break
        return found

    def _hold(self, entry: dict[str, Any]) -> None:
        held = self.held[entry["d"]]
        held.at_ms.append(entry["t"])
        held.images.append({table: bytes.fromhex(text) for table, text in entry["image"].items()})


class Wrong(NamedTuple):
    """A stored value that no device held."""

    device: str
    point: str
    at_ms: int
    stored: str
    held: list[float]

    def __str__(self) -> str:
        return f"{self.device} {self.point} at {self.at_ms}: {self.stored} stored, the device held {self.held}"


class Stored:
    """The update stream, as it was recorded."""

    def __init__(self, path: Path) -> None:
        """Read it: messages of T and S, and what became of commands."""
        self.updates: list[dict[str, Any]] = []
        self.commands: dict[str, dict[str, Any]] = {}
        with path.open("rb") as lines:
            for line in lines:
                message = orjson.loads(line)
                if "channel" in message and "points" in message:
                    if message["type"] in {"T", "S"}:
                        self.updates.append(message)
                elif "state" in message and "id" in message:
                    self.commands[message["id"]] = message


def device_of(channel: int, point: str) -> str:
    """Return the device of a point: its unit stands in its id."""
    return f"{channel}/{int(point) // STRIDE}"


def wrong_values(devices: Devices, units: Iterable[Unit], stored: Stored) -> tuple[int, list[Wrong]]:
    """Compare each stored value with what the device held when it was asked; return how many were compared."""
    cells = {cell.name: (unit, cell) for unit in units for cell in unit.cells}
    compared = 0
    wrong = []
    for message in stored.updates:
        for point, value in message["points"].items():
            name = f"{message['channel']}:{message['type']}:{point}"
            unit, cell = cells[name]
            text = f"{value:.6f}" if isinstance(value, float) else str(value)
            raws = [_raw(unit, cell, image) for image in devices.images(unit.name, cell, message["at_ms"])]
            compared += 1
            if not any(cell.holds(raw, text) for raw in raws):
                wrong.append(Wrong(unit.name, name, message["at_ms"], text, [cell.value(raw) for raw in raws]))
    return compared, wrong


def _raw(unit: Unit, cell: Cell, image: dict[str, bytes]) -> int | float | str:
    table = Table(cell.table)
    return cell.take(image[table], unit.memories[table].at(cell.address))


class Recovery(NamedTuple):
    """How long after the end of a fault every value of the device was stored again; None: never."""

    fault: Fault
    device: str
    took_ms: int | None


def recoveries(devices: Devices, stored: Stored, end_ms: int) -> Iterator[Recovery]:
    """Yield how each device came back after each fault.

    A fault that met the device before it was back, or the end of the run, within the time allowed:
    then there is nothing to say; it is the last fault of such a row that counts.
    """
    seen: dict[str, list[tuple[int, set[str]]]] = defaultdict(list)
    for message in stored.updates:
        if message["type"] == "T":
            by_device: dict[str, set[str]] = defaultdict(set)
            for point in message["points"]:
                by_device[device_of(message["channel"], point)].add(point)
            for device, points in by_device.items():
                seen[device].append((message["at_ms"], points))
    for each in seen.values():
        each.sort(key=lambda item: item[0])
    for name, faults in device_faults(devices).items():
        wanted = telemetry_ids(int(name.partition("/")[2]))
        for fault, after in zip(faults, [*faults[1:], None], strict=True):
            took = _until_whole(seen[name], wanted, fault.until_ms)
            next_ms = after.since_ms if after else end_ms
            if took is not None and fault.until_ms + took <= next_ms:
                yield Recovery(fault, name, took)
            elif next_ms - fault.until_ms > RECOVERY_MS:
                yield Recovery(fault, name, None)


def device_faults(devices: Devices) -> dict[str, list[Fault]]:
    """Return the faults of each device in order; one of a link is one of each device behind it."""
    found: dict[str, list[Fault]] = defaultdict(list)
    for fault in sorted(devices.faults, key=lambda fault: fault.since_ms):
        channel, _, unit = fault.unit.partition("/")
        numbers = range(1, 9) if fault.of_link and int(channel) in GATEWAYS else (int(unit),)
        for number in numbers:
            found[f"{channel}/{number}"].append(fault)
    return found


def _until_whole(seen: list[tuple[int, set[str]]], wanted: set[str], from_ms: int) -> int | None:
    left = set(wanted)
    for at_ms, points in seen[bisect_left(seen, from_ms, key=lambda item: item[0]) :]:
        left -= points
        if not left:
            return at_ms - from_ms
    return None


def periods(devices: Devices, chosen: Iterable[str], begin_ms: int, end_ms: int) -> np.ndarray[Any, Any]:
    """Return the times between two polls of the same block of the devices, in milliseconds."""
    names = set(chosen)
    found = [
        np.diff([at for at in times if begin_ms <= at <= end_ms])
        for (device, _, _), times in devices.requests.items()
        if device in names
    ]
    return np.concatenate([each for each in found if each.size] or [np.array([float(INTERVAL_MS)])])


def neighbors(devices: Devices, begin_ms: int, end_ms: int) -> np.ndarray[Any, Any]:
    """Return the times between two polls of units behind a gateway, without those a fault of their own touched."""
    troubled = {
        device: [(fault.since_ms, fault.until_ms + RECOVERY_MS) for fault in faults]
        for device, faults in device_faults(devices).items()
    }
    found: list[int] = []
    for (device, _, _), times in devices.requests.items():
        if int(device.partition("/")[0]) not in GATEWAYS:
            continue
        for before, after in pairwise(times):
            inside = begin_ms <= before and after <= end_ms
            if inside and not any(since <= after and before <= until for since, until in troubled.get(device, ())):
                found.append(after - before)
    return np.array(found or [INTERVAL_MS])


def wrong_commands(devices: Devices, stored: Stored, sent: dict[str, tuple[str, str]]) -> list[str]:
    """Return which commands were written twice, or called verified without having had an effect.

    Args:
        devices: what they saw.
        stored: what became of the commands.
        sent: command id -> (device, bytes of its value in hexadecimal).
    """
    found = []
    for command, (device, data) in sent.items():
        writes = [write for write in devices.writes[device] if write.data.endswith(data)]
        state = stored.commands.get(command, {}).get("state", "unknown")
        if len(writes) > 1:
            found.append(f"command {command} was written {len(writes)} times")
        if state == "verified" and not any(write.applied for write in writes):
            found.append(f"command {command} is verified and had no effect")
    return found
