"""Every key name, once. `python -m libs.redis.keys` writes redis_functions/lib/keys.lua from this table.

A pattern's `{name}` is filled by the caller; the namespace goes in front of the
whole (`{plant7}:comsrv:1001:T`). Channels (pub/sub) stand here too: they are names
people type.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple


class KeySpec(NamedTuple):
    """One key: its name in code, its pattern, its Redis type, its owner and what it holds."""

    name: str
    pattern: str
    type: str
    owner: str
    doc: str


KEYS: Final[tuple[KeySpec, ...]] = (
    # Everything that belongs to no single service.
    KeySpec("schema", "voltage:schema", "string", "voltage", "schema number of all keys"),
    KeySpec("migrations", "voltage:migrations", "hash", "voltage", "schema number -> how the keys came to it, JSON"),
    KeySpec("image", "voltage:image", "string", "voltage", "number of the last accepted call"),
    KeySpec(
        "generation", "voltage:generation", "string", "voltage", "random token, new at each change of a definition"
    ),
    KeySpec("clock", "voltage:clock", "hash", "voltage", "last instant, simulation flag, clock steps seen"),
    KeySpec("timers", "voltage:timers", "zset", "voltage", "timers by due instant"),
    KeySpec(
        "deferred", "voltage:deferred", "list", "voltage", "transitions past the budget of a call, drained by tick"
    ),
    KeySpec("ledger", "voltage:ledger", "hash", "voltage", "counters of samples, in total"),
    KeySpec("applied", "voltage:applied", "hash", "voltage", "rule:{id} -> hash of what a file said, once applied"),
    KeySpec("limits", "voltage:limits", "hash", "voltage", "caps of streams, memory seen at the last look"),
    KeySpec("system_conditions", "voltage:system:conditions", "hash", "voltage", "what is wrong with the system now"),
    KeySpec("system_settings", "voltage:system:settings", "hash", "voltage", "alarm -> the site's settings, JSON"),
    KeySpec("events", "voltage:events", "stream", "voltage", "what happened to the system itself"),
    KeySpec("replay", "voltage:replay", "stream", "voltage", "what went into every call that changed something"),
    KeySpec("replay_size", "voltage:replay:size", "hash", "voltage", "bytes of the replay log, entries dropped"),
    KeySpec("replay_kept", "voltage:replay:kept", "string", "voltage", "cap of the replay log while somebody keeps it"),
    KeySpec(
        "replay_private",
        "voltage:replay:private",
        "string",
        "voltage",
        "in the Redis of a replay alone: the definition changed",
    ),
    KeySpec(
        "replay_names",
        "voltage:replay:names",
        "hash",
        "voltage",
        "in the Redis of a replay alone: recorded alarm -> its origin, where a definition is another one",
    ),
    KeySpec(
        "versions",
        "voltage:versions:{kind}:{id}",
        "hash",
        "voltage",
        "what a definition was before, and who changed it",
    ),
    KeySpec("versions_gone", "voltage:versions:gone", "zset", "voltage", "kind:id of deleted definitions, by instant"),
    KeySpec("proposal", "voltage:proposal:{id}", "hash", "voltage", "a change that waits for a second person"),
    KeySpec("proposals", "voltage:proposals", "zset", "voltage", "proposal ids by creation"),
    KeySpec("proposals_pending", "voltage:proposals:{kind}:{id}", "set", "voltage", "what waits for a definition"),
    KeySpec("shadow", "voltage:shadow:{kind}:{id}", "string", "voltage", "what runs beside the active definition"),
    KeySpec("shadows", "voltage:shadows", "set", "voltage", "kind:id of all shadows"),
    KeySpec("shadow_state", "voltage:shadow:{kind}:{id}:state", "hash", "voltage", "how a shadow stands"),
    KeySpec(
        "shadow_log", "voltage:shadow:{kind}:{id}:log", "stream", "voltage", "what a shadow and the active one did"
    ),
    KeySpec("job", "voltage:job:{id}", "hash", "voltage", "a job"),
    KeySpec("jobs", "voltage:jobs:{queue}", "zset", "voltage", "jobs that wait, by priority and age"),
    KeySpec("jobs_delayed", "voltage:jobs:{queue}:delayed", "zset", "voltage", "jobs by their not_before"),
    KeySpec("jobs_leased", "voltage:jobs:{queue}:leased", "zset", "voltage", "jobs by the end of their lease"),
    KeySpec("jobs_number", "voltage:jobs:{queue}:number", "string", "voltage", "number of the queue's last job"),
    KeySpec("jobs_dedupe", "voltage:jobs:{queue}:dedupe", "hash", "voltage", "input hash -> job"),
    # comsrv
    KeySpec("channels", "comsrv:channels", "set", "comsrv", "channel ids"),
    KeySpec("channel", "comsrv:channel:{ch}", "string", "comsrv", "a channel's definition, JSON"),
    KeySpec("values", "comsrv:{ch}:{type}", "hash", "comsrv", "point -> value, six decimals"),
    KeySpec("programs", "comsrv:{ch}:programs", "hash", "comsrv", "T:5 -> program of a calculated point, JSON"),
    KeySpec("points", "comsrv:{ch}:points", "hash", "comsrv", "T:1 -> unit that answers for it | unit of the value"),
    KeySpec("writable", "comsrv:{ch}:writable", "hash", "comsrv", "A:1 -> limits of a point that may be written, JSON"),
    KeySpec("values_at", "comsrv:{ch}:{type}:ts", "hash", "comsrv", "point -> instant of the last change"),
    KeySpec("values_quality", "comsrv:{ch}:{type}:q", "hash", "comsrv", "point -> quality while not good"),
    KeySpec("seen", "comsrv:{ch}:seen", "hash", "comsrv", "block -> instant of its last good response"),
    KeySpec("command_states", "comsrv:{ch}:command_states", "hash", "comsrv", "A:1 -> state of its newest command"),
    KeySpec("sequence", "comsrv:{ch}:seq", "hash", "comsrv", "block -> last sequence of this epoch"),
    KeySpec(
        "status", "comsrv:{ch}:status", "hash", "comsrv", "state, epoch, lease, units; behind where blocks come late"
    ),
    KeySpec("channel_ledger", "comsrv:{ch}:ledger", "hash", "comsrv", "counters of the channel's samples"),
    KeySpec("command_stream", "comsrv:{ch}:commands", "stream", "comsrv", "commands as they come"),
    KeySpec("command_queue", "comsrv:{ch}:queued", "zset", "comsrv", "queued command ids by priority and age"),
    KeySpec("command_sent", "comsrv:{ch}:sent", "set", "comsrv", "command ids sent and not complete"),
    KeySpec("command", "comsrv:command:{id}", "hash", "comsrv", "a command"),
    KeySpec("commands", "comsrv:commands", "zset", "comsrv", "command ids by creation"),
    KeySpec("selected", "comsrv:{ch}:selected", "hash", "comsrv", "point -> who selected it until when"),
    KeySpec("held", "comsrv:{ch}:held", "hash", "comsrv", "point -> who holds it, and the fall-back"),
    KeySpec("wear", "comsrv:{ch}:wear", "hash", "comsrv", "point -> last write, day, writes that day"),
    KeySpec(
        "latest", "comsrv:{ch}:latest", "hash", "comsrv", "point -> its queued command, where only the latest counts"
    ),
    KeySpec("tags", "comsrv:{ch}:tags", "hash", "comsrv", "point -> lock-out or maintenance tag"),
    KeySpec("substituted", "comsrv:{ch}:substituted", "hash", "comsrv", "point -> substitution by hand"),
    KeySpec("operations", "comsrv:journal", "stream", "comsrv", "what operators did to points"),
    # modsrv
    KeySpec("template", "modsrv:template:{id}", "string", "modsrv", "a template, JSON"),
    KeySpec("templates", "modsrv:templates", "set", "modsrv", "template ids"),
    KeySpec("model", "modsrv:model:{id}", "string", "modsrv", "a model, JSON"),
    KeySpec("models", "modsrv:models", "set", "modsrv", "model ids"),
    KeySpec("models_by_template", "modsrv:models:by_template:{id}", "set", "modsrv", "models of a template"),
    KeySpec("model_expansion", "modsrv:{id}:expanded", "string", "modsrv", "name -> reference of a model, JSON"),
    KeySpec(
        "model_sources",
        "modsrv:{id}:sources",
        "list",
        "modsrv",
        "what the model's points were before, and until when, JSON",
    ),
    KeySpec("model_values", "modsrv:{id}:measurement", "hash", "modsrv", "point name -> value"),
    KeySpec("model_values_at", "modsrv:{id}:measurement:ts", "hash", "modsrv", "point name -> instant"),
    KeySpec("model_values_quality", "modsrv:{id}:measurement:q", "hash", "modsrv", "point name -> quality, not good"),
    KeySpec("model_actions", "modsrv:{id}:action", "hash", "modsrv", "action name -> last value confirmed"),
    KeySpec("reverse", "modsrv:reverse:{ch}", "hash", "modsrv", "T:1 -> [[model, name], ...], JSON"),
    # alarmsrv
    KeySpec("alarm", "alarmsrv:alarm:{id}", "hash", "alarmsrv", "an alarm"),
    KeySpec("alarms_active", "alarmsrv:alarms:active", "set", "alarmsrv", "alarms that are not Resolved"),
    KeySpec("alarms_by_level", "alarmsrv:alarms:by_level:{level}", "set", "alarmsrv", "alarm ids of a level"),
    KeySpec("alarms_in", "alarmsrv:alarms:in:{status}", "zset", "alarmsrv", "alarm ids of a status by creation"),
    KeySpec("alarm_group", "alarmsrv:alarms:by_group:{group}", "set", "alarmsrv", "open alarms of a group"),
    KeySpec("alarm_first_outs", "alarmsrv:alarms:first_outs", "hash", "alarmsrv", "group -> origin of its first-out"),
    KeySpec("alarm_marks", "alarmsrv:marks", "hash", "alarmsrv", "kind, name, holder -> who marked what, JSON"),
    KeySpec("alarms_by_source", "alarmsrv:alarms:by_source:{source}", "set", "alarmsrv", "alarm ids of a source"),
    KeySpec("alarms_by_area", "alarmsrv:alarms:by_area:{area}", "set", "alarmsrv", "alarm ids of an area"),
    KeySpec(
        "alarms_by_equipment",
        "alarmsrv:alarms:by_equipment:{equipment}",
        "set",
        "alarmsrv",
        "alarm ids of an equipment",
    ),
    KeySpec(
        "alarms_quiet",
        "alarmsrv:alarms:quiet:{why}",
        "set",
        "alarmsrv",
        "alarm ids that are shelved, suppressed or out_of_service",
    ),
    KeySpec("alarms_counts", "alarmsrv:alarms:counts", "hash", "alarmsrv", "level -> how many are not Resolved"),
    KeySpec(
        "alarms_resolved", "alarmsrv:alarms:resolved", "zset", "alarmsrv", "Resolved alarms by instant, for retention"
    ),
    KeySpec("alarms_open", "alarmsrv:alarms:open", "hash", "alarmsrv", "origin -> open alarm id"),
    KeySpec("alarm_journal", "alarmsrv:journal", "stream", "alarmsrv", "every transition of every alarm"),
    KeySpec("alarm_journal_head", "alarmsrv:journal:head", "hash", "alarmsrv", "the last entry; what routes want"),
    KeySpec("alarm_route", "alarmsrv:route:{id}", "string", "alarmsrv", "a route of notification, JSON"),
    KeySpec("alarm_routes", "alarmsrv:routes", "set", "alarmsrv", "ids of the routes of notification"),
    KeySpec("alarm_outbox", "alarmsrv:outbox", "stream", "alarmsrv", "what operators must be told"),
    KeySpec("alarm_outbox_sending", "alarmsrv:outbox:sending", "hash", "alarmsrv", "target -> the message on its way"),
    KeySpec("alarm_outbox_done", "alarmsrv:outbox:done", "set", "alarmsrv", "entry|target: it has it, others wait"),
    KeySpec("alarm_outbox_targets", "alarmsrv:outbox:targets", "hash", "alarmsrv", "target -> rate and flood, JSON"),
    KeySpec("alarm_outbox_shifts", "alarmsrv:outbox:shifts", "hash", "alarmsrv", "route -> since when its shift knows"),
    KeySpec("alarm_outbox_dead", "alarmsrv:outbox:dead", "stream", "alarmsrv", "messages given up, and why"),
    KeySpec("definition", "alarmsrv:definition:{id}", "string", "alarmsrv", "an alarm definition, JSON"),
    KeySpec("definitions", "alarmsrv:definitions", "set", "alarmsrv", "definition ids"),
    KeySpec("definition_state", "alarmsrv:definition:{id}:state", "hash", "alarmsrv", "holds, windows"),
    KeySpec("conditions", "alarmsrv:conditions", "hash", "alarmsrv", "definition id -> truth (1 0 ? + -), active"),
    KeySpec(
        "suppression_state", "alarmsrv:definition:{id}:suppression", "hash", "alarmsrv", "truth, holds of suppress_when"
    ),
    # rulesrv
    KeySpec("rule", "rulesrv:rule:{id}", "string", "rulesrv", "a rule, JSON"),
    KeySpec("rules", "rulesrv:rules", "set", "rulesrv", "rule ids"),
    KeySpec("rule_state", "rulesrv:rule:{id}:state", "hash", "rulesrv", "truth, holds, firings"),
    KeySpec("watch", "rulesrv:watch:{source}", "set", "rulesrv", "rules that watch a reference"),
    KeySpec("rule_window", "rulesrv:window:{source}", "hash", "rulesrv", "slices of a window that is aggregated over"),
    KeySpec("rule_zones", "rulesrv:zones", "hash", "rulesrv", "time zone -> its offsets for some years, JSON"),
    KeySpec("rule_zones_wanted", "rulesrv:zones:wanted", "set", "rulesrv", "time zones that conditions name now"),
    KeySpec("rule_calendar", "rulesrv:calendar:{id}", "string", "rulesrv", "a calendar of dates, JSON"),
    KeySpec("rule_calendars", "rulesrv:calendars", "set", "rulesrv", "calendar ids"),
    KeySpec("firings", "rulesrv:firings", "stream", "rulesrv", "every firing, with its inputs"),
    # hissrv
    KeySpec("mapping", "hissrv:mapping:{id}", "string", "hissrv", "a mapping, JSON"),
    KeySpec("mappings", "hissrv:mappings", "set", "hissrv", "mapping ids"),
    KeySpec("history_queue", "hissrv:queue", "stream", "hissrv", "documents that wait for the store"),
    KeySpec("history_size", "hissrv:queue:size", "hash", "hissrv", "entries, bytes and samples of the queue; stores"),
    KeySpec("store_ledger", "hissrv:ledger:{store}", "hash", "hissrv", "counters of what became of samples in a store"),
    KeySpec("history_failed", "hissrv:queue:failed", "set", "hissrv", "dead-lettered entries other groups still read"),
    KeySpec("batch", "hissrv:batch:{id}", "hash", "hissrv", "a batch on its way to the store"),
    KeySpec("dead_letters", "hissrv:dead_letters", "stream", "hissrv", "what the store refused, and why"),
    # netsrv
    KeySpec("network", "netsrv:network:{id}", "string", "netsrv", "a network, JSON; secrets never"),
    KeySpec("networks", "netsrv:networks", "set", "netsrv", "network ids"),
    KeySpec("route", "netsrv:route:{id}", "string", "netsrv", "a route, JSON"),
    KeySpec("routes", "netsrv:routes", "set", "netsrv", "route ids"),
    KeySpec("forward_state", "netsrv:state", "hash", "netsrv", "token, new at each change; whether the queue is read"),
    # gateway
    KeySpec("audit", "gateway:audit", "stream", "gateway", "log-ins and changes of users"),
)

CHANNELS: Final[tuple[KeySpec, ...]] = (
    KeySpec("updates", "comsrv:updates:{ch}", "channel", "comsrv", "changed points of a channel"),
    KeySpec("model_updates", "modsrv:updates:{id}", "channel", "modsrv", "changed points of a model"),
    KeySpec("command_changed", "comsrv:command:changed", "channel", "comsrv", "a command's new state"),
    KeySpec("alarm_new", "alarmsrv:new", "channel", "alarmsrv", "a new alarm"),
    KeySpec("alarm_changed", "alarmsrv:changed", "channel", "alarmsrv", "an alarm that changed"),
    KeySpec("triggered", "rulesrv:triggered", "channel", "rulesrv", "a rule that fired or cleared"),
    KeySpec("rule_published", "rulesrv:published:{topic}", "channel", "rulesrv", "what a rule's publish action says"),
)

BY_NAME: Final[dict[str, KeySpec]] = {spec.name: spec for spec in KEYS + CHANNELS}
SCHEMA: Final = 5
LUA_PATH: Final = Path(__file__).parents[2] / "redis_functions" / "lib" / "keys.lua"
_FIELD: Final = re.compile(r"\{(\w+)\}")


def key(name: str, **fields: str | int) -> str:
    """Return a key's text, without namespace."""
    return BY_NAME[name].pattern.format(**fields)


def prefix(namespace: str) -> str:
    """Return what stands before every key of a namespace: `{plant7}:`, or nothing."""
    return f"{{{namespace}}}:" if namespace else ""


def lua_source() -> str:
    """Return the text of lib/keys.lua: one constructor a key, taking the namespace prefix first."""
    lines = [
        "-- Generated from libs/redis/keys.py by `python -m libs.redis.keys`; do not edit.",
        "local M = {}",
        "",
        f"M.SCHEMA = {SCHEMA}",
        "",
    ]
    for spec in KEYS + CHANNELS:
        fields = _FIELD.findall(spec.pattern)
        pieces = [piece for piece in re.split(r"(\{\w+\})", spec.pattern) if piece]
        expression = " .. ".join(["ns", *(piece[1:-1] if piece.startswith("{") else f'"{piece}"' for piece in pieces)])
        arguments = ", ".join(["ns", *fields])
        lines += [
            f"-- {spec.type}: {spec.doc}.",
            f"function M.{spec.name}({arguments})",
            f"  return {expression}",
            "end",
            "",
        ]
    return "\n".join([*lines, "return M", ""])


if __name__ == "__main__":
    LUA_PATH.parent.mkdir(parents=True, exist_ok=True)
    LUA_PATH.write_text(lua_source(), encoding="utf-8")
