"""The settings of a Telegraf [[inputs.modbus]] that are of its connection: a channel's parameters and polling."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from services.commands.importers.records import Import
from services.commands.importers.toml_lines import Section

PARITIES: Final = {"N": "none", "E": "even", "O": "odd"}
# What the channel has by another name, and where.
_WORKAROUNDS: Final = {
    "pause_after_connect": ("parameters", "connect_pause_ms"),
    "pause_between_requests": ("parameters", "pause_ms"),
    "max_word_registers_per_request": ("polling", "max_registers"),
    "max_bit_registers_per_request": ("polling", "max_bits"),
}
_SERIAL: Final = ("baud_rate", "data_bits", "parity", "stop_bits")
# Taken elsewhere, or of Telegraf itself and nothing that a channel could have.
_QUIET: Final = {
    "name", "slave_id", "controller", "transmission_mode", "configuration_type", "timeout", "interval", "workarounds",
    "coils", "discrete_inputs", "holding_registers", "input_registers", "request", "metric", *_SERIAL,
}  # fmt: skip
_UNITS_MS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_DEFAULT_INTERVAL_MS: Final = 10_000


def duration_ms(text: Any) -> int | None:
    """Return the milliseconds of a duration such as 1s, 250ms or 1m30s; a bare number counts seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return round(text * 1000) if abs(text) < float("inf") else None
    parts = _PART.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        return None
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def connection(
    plugin: dict[str, Any], place: Section, workarounds_at: Section, document: dict[str, Any], found: Import
) -> None:
    """Take the endpoint, the times and the workarounds; the rest is noted as lost."""
    _endpoint(plugin, place, found)
    timeout = duration_ms(plugin.get("timeout", "1s"))
    if timeout is not None and 10 <= timeout <= 60_000:
        found.parameters["timeout_ms"] = timeout
    else:
        found.lose(place.of("timeout"), "", f"timeout = {plugin['timeout']}", "is not from 10 ms to 60 s")
    agent = document.get("agent")
    declared = plugin.get("interval", agent.get("interval") if isinstance(agent, dict) else None)
    interval = _DEFAULT_INTERVAL_MS if declared is None else duration_ms(declared)
    if declared is None:
        found.assumed.append(f"polled every {_DEFAULT_INTERVAL_MS} ms, Telegraf's default: no interval is named")
    if interval is not None and 10 <= interval <= 86_400_000:
        found.polling["interval_ms"] = interval
    else:
        found.lose(place.of("interval"), "", f"interval = {declared}", "is not from 10 ms to a day; it is 1 s now")
    workarounds = plugin.get("workarounds")
    for name, value in (workarounds if isinstance(workarounds, dict) else {}).items():
        _workaround(name, value, workarounds_at, found)
    for name, value in plugin.items():
        if name not in _QUIET:
            shown = "" if isinstance(value, dict | list) else f" = {value}"
            found.lose(place.of(name), "", f"{name}{shown}", "a channel has no such setting")


def _endpoint(plugin: dict[str, Any], place: Section, found: Import) -> None:
    controller, mode = str(plugin.get("controller") or ""), str(plugin.get("transmission_mode") or "auto").lower()
    if "ascii" in mode:
        found.lose(place.of("transmission_mode"), "", f"transmission_mode = {mode}", "there is no Modbus ASCII here")
        return
    try:
        url = urlsplit(controller)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme == "tcp" and url.hostname:
        found.protocol = "modbus_rtu_over_tcp" if mode == "rtuovertcp" else "modbus_tcp"
        found.parameters |= {"host": url.hostname, "port": port or 502}
    elif url.scheme == "file" and url.path.startswith("/"):
        found.protocol = "modbus_rtu"
        found.parameters["port"] = url.path
        _serial(plugin, place, found)
    else:
        found.lose(
            place.of("controller"), "", f"controller = {controller!r}", "is no tcp://host:port and no file:///dev/..."
        )


def _serial(plugin: dict[str, Any], place: Section, found: Import) -> None:
    if "baud_rate" in plugin:
        found.parameters["baud_rate"] = plugin["baud_rate"]
    if plugin.get("stop_bits") in (1, 2):
        found.parameters["stop_bits"] = plugin["stop_bits"]
    parity = str(plugin.get("parity", "N"))
    if parity in PARITIES:
        found.parameters["parity"] = PARITIES[parity]
    else:
        found.lose(place.of("parity"), "", f"parity = {parity}", f"is none of {', '.join(PARITIES)}")
    if plugin.get("data_bits", 8) != 8:
        found.lose(place.of("data_bits"), "", f"data_bits = {plugin['data_bits']}", "an RTU frame has 8")


def _workaround(name: str, value: Any, place: Section, found: Import) -> None:
    if name == "string_register_location":
        return
    if name == "one_request_per_field" and isinstance(value, bool):
        if value:
            found.polling["mode"] = "single"
        return
    where, ours = _WORKAROUNDS.get(name, ("", ""))
    taken = duration_ms(value) if where == "parameters" else value if isinstance(value, int) else None
    if ours and taken is not None:
        if taken:
            getattr(found, where)[ours] = taken
    elif value is not False and value != "":
        found.lose(place.of(name), "", f"workarounds.{name} = {value}", "a channel has no such setting")
