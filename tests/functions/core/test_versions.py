"""Versions of definitions: numbered by the functions, kept, brought back; the same for every kind."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs.definitions import said_of
from libs.errors import ConflictError, InvalidError, LimitError, NotFoundError, StateError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.refusal import refused
from tests.support.site import START, Site, keyspace

LEAF = {"source": "comsrv:1001:T:1", "operator": ">", "value": 10}
RULE: dict[str, Any] = {"name": "high", "conditions": [LEAF]}
ANN, BOB = {"by": "ann"}, {"by": "bob"}
# Each kind: its functions, what it says first and then.
KINDS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "rule": ("rule_upsert", "rule_delete", RULE, {**RULE, "name": "higher"}),
    "alarm_definition": (
        "alarm_define", "alarm_definition_delete",
        {"source": "comsrv:1001:T:1", "detector": "Hi", "limit": 80, "level": "Major"},
        {"source": "comsrv:1001:T:1", "detector": "Hi", "limit": 90, "level": "Major"},
    ),
    "model": (
        "model_upsert", "model_delete", {"name": "x", "mapping": {"channel": 1001, "data": {"p": 1}}},
        {"name": "x", "mapping": {"channel": 1001, "data": {"p": 2}}},
    ),
    "template": ("template_upsert", "template_delete", {"name": "t"}, {"name": "u"}),
    "mapping": ("configure_mapping", "mapping_delete", {"source": "*"}, {"source": "comsrv:*"}),
    "network": (
        "network_upsert", "network_delete", {"type": "mqtt", "host": "a"}, {"type": "mqtt", "host": "b"},
    ),
    "alarm_route": ("alarm_route_upsert", "alarm_route_delete", {"to": ["email:a@x.org"]}, {"to": ["email:b@x.org"]}),
}  # fmt: skip


@pytest.fixture
async def site(functions: Functions) -> Site:
    return await Site(functions).start()


async def put(site: Site, document: dict[str, Any], **change: Any) -> dict[str, Any]:
    found: dict[str, Any] = await site.functions.json("rule_upsert", "r1", document, {"by": "ann", **change})
    return found


async def versions(site: Site, of: str = "r1", kind: str = "rule") -> list[tuple[int, str, str]]:
    found = await site.functions.read_json("definition_versions", of, {"kind": kind})
    return [(one["version"], one["action"], one["author"]) for one in found["items"]]


async def rollback(site: Site, version: int, kind: str = "rule", of: str = "r1", **more: Any) -> dict[str, Any]:
    asked = {"kind": kind, "version": version, "by": "bob", **more}
    found: dict[str, Any] = await site.functions.json("definition_rollback", of, asked)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_life_of_any_definition(site: Site, kind: str) -> None:
    """Created, changed, deleted, brought back: each is a version, and none is forgotten."""
    upsert, delete, first, then = KINDS[kind]
    made = await site.functions.json(upsert, "d1", first, {**ANN, "reason": "new"})
    assert (made["version"], made["author"], made["reason"]) == (1, "ann", "new")
    changed = await site.functions.json(upsert, "d1", then, {**BOB, "version": 1})
    assert (changed["version"], changed["author"], changed.get("reason")) == (2, "bob", None)
    assert changed["hash"] != made["hash"]
    assert changed["created_at_ms"] == made["created_at_ms"]
    await site.functions.call(delete, "d1", ANN)
    back = await rollback(site, 1, kind, "d1", reason="as it was")
    assert (said_of(back), back["version"], back["hash"]) == (said_of(made), 4, made["hash"])
    assert await versions(site, "d1", kind) == [
        (4, "rolled_back", "bob"), (3, "deleted", "ann"), (2, "changed", "bob"), (1, "created", "ann"),
    ]  # fmt: skip
    told = await site.functions.read_json("definition_version", "d1", {"kind": kind, "version": 2})
    assert (told["definition"], told["author"]) == (said_of(changed), "bob")


async def test_a_reason_that_was_read_is_not_that_of_the_next_change(site: Site) -> None:
    first = await put(site, RULE, reason="commissioned")
    changed = await put(site, {**first, "priority": 3}, **BOB)
    assert (changed["version"], changed["author"], changed.get("reason")) == (2, "bob", None)
    back = await put(site, first, reason="commissioned", read=first["hash"])
    assert (back["version"], back["author"], back.get("reason")) == (3, "ann", None), "as HTTP passes it on"
    back = await put(site, {**back, "priority": 4, "reason": "tested"}, **BOB)
    assert (back["author"], back["reason"]) == ("bob", "tested")
    off = await site.functions.json("rule_enable", "r1", "false", ANN)
    assert (off["author"], off.get("reason")) == ("ann", None)
    again = await put(site, {**off, "enabled": True}, reason="tested", **BOB)
    assert again["reason"] == "tested", "said anew"
    items = (await site.functions.read_json("definition_versions", "r1", {"kind": "rule"}))["items"]
    assert [item.get("reason") for item in items] == ["tested", None, "tested", None, None, "commissioned"]


async def test_what_a_caller_says_of_versions_is_not_believed(site: Site) -> None:
    forged = {"version": 99, "author": "eve", "hash": "x", "created_at_ms": 1, "updated_at_ms": 2}
    made = await put(site, {**forged, **RULE, "reason": "why"})
    assert (made["version"], made["author"], made["reason"]) == (1, "ann", "why")
    assert (made["created_at_ms"], made["updated_at_ms"]) == (START, START)
    assert await site.functions.json("rule_upsert", "r1", {**RULE, "name": "x"}) | {"author": "redis"} == (
        await site.functions.read_json("rule_get", "r1")
    )


async def test_what_says_the_same_makes_no_version(site: Site) -> None:
    """Whatever the order of its members, and whoever says it."""
    made = await put(site, {**RULE, "priority": 5})
    before = await keyspace(site.functions)
    same = {"priority": 5.0, "conditions": [dict(reversed(LEAF.items()))], "id": "r1", "name": "high"}
    assert await site.functions.json("rule_upsert", "r1", same, {**BOB, "version": 1}) == made
    assert await keyspace(site.functions) == before


async def test_who_saw_an_older_version_is_told_so(site: Site) -> None:
    await put(site, RULE, version=0)
    await put(site, {**RULE, "name": "b"}, version=1)
    async with refused(site.functions, ConflictError, "rule r1 has version 2, not 1"):
        await put(site, {**RULE, "name": "c"}, version=1)
    async with refused(site.functions, ConflictError, "rule r1 exists"):
        await put(site, {**RULE, "name": "c"}, version=0)
    async with refused(site.functions, ConflictError, "has version 2, not 1"):
        await site.functions.call("rule_delete", "r1", {"by": "ann", "version": 1})
    async with refused(site.functions, ConflictError, "has version 2, not 7"):
        await rollback(site, 1, expected=7)
    with pytest.raises(NotFoundError):
        await site.functions.call("rule_upsert", "r2", RULE, {"by": "ann", "existing": True})


async def test_a_refused_change_is_no_version(site: Site) -> None:
    await put(site, RULE)
    async with refused(site.functions, InvalidError, "conditions"):
        await put(site, {"name": "no"})
    assert await versions(site) == [(1, "created", "ann")]


async def test_switching_is_a_version(site: Site) -> None:
    await put(site, RULE)
    await site.functions.call("rule_enable", "r1", "false", {**BOB, "reason": "maintenance"})
    await site.functions.call("rule_enable", "r1", "false", BOB)
    assert await versions(site) == [(2, "disabled", "bob"), (1, "created", "ann")]


async def test_a_definition_comes_back_as_its_next_version(site: Site) -> None:
    """Deleting and making it again does not begin at one: a firing names a version for good."""
    await put(site, RULE)
    await site.functions.call("rule_delete", "r1", ANN)
    assert (await put(site, {**RULE, "name": "again"}))["version"] == 3
    async with refused(site.functions, StateError, "version 2 of rule r1 is its deletion"):
        await rollback(site, 2)
    async with refused(site.functions, NotFoundError, "there are 1 to 3"):
        await rollback(site, 9)


async def test_a_version_takes_effect_at_once(site: Site) -> None:
    await put(site, {**RULE, "actions": [{"type": "create_alarm", "params": {"title": "x"}}]})
    await put(site, {**RULE, "conditions": [LEAF | {"value": 100}]})
    await site.put({1: 50})
    assert await site.firings() == []
    await rollback(site, 1)
    assert await site.firings() == [("r1", "fired", 0)]
    (firing,) = await site.entries("rulesrv:firings")
    assert firing["version"] == "3"


async def test_what_is_kept_is_bounded(site: Site) -> None:
    """The last 50, and 256 kB of each definition; the number goes on."""
    for number in range(60):
        await put(site, {**RULE, "priority": number})
    kept = await versions(site)
    assert (kept[0][0], kept[-1][0]) == (60, 10)
    for number in range(5):
        await put(site, {**RULE, "conditions": [LEAF] * 200, "priority": number, "tags": ["x" * 4000] * 30})
    assert [number for number, *_ in await versions(site)] == [65, 64]
    with pytest.raises(NotFoundError):
        await rollback(site, 10)


async def test_of_the_deleted_the_oldest_is_forgotten(site: Site) -> None:
    gone = {f"rule:x{number}": number for number in range(1000)}
    await execute(
        site.functions.client, "ZADD", "voltage:versions:gone", *(item for pair in gone.items() for item in pair[::-1])
    )
    await execute(site.functions.client, "HSET", "voltage:versions:rule:x0", "first", 1, "last", 2)
    await put(site, RULE)
    await site.functions.call("rule_delete", "r1", ANN)
    assert await execute(site.functions.client, "EXISTS", "voltage:versions:rule:x0") == 0
    assert await versions(site) == [(2, "deleted", "ann"), (1, "created", "ann")]


async def test_a_definition_that_never_changed_keeps_nothing_beside_it(site: Site) -> None:
    await put(site, RULE)
    assert [name for name in await keyspace(site.functions) if b"versions" in name] == []


async def test_strange_texts_are_stamped_all_the_same(site: Site) -> None:
    """Names and values that look like what the scanner looks for."""
    strange = '"version": 5, } ] \\" {'
    text = (
        '\n { "name" : "NAME" ,\t"version":7 , "description":"",\n"conditions":[ {"source":"comsrv:1001:T:1",'
        '"operator":">","value":1e1} ],"actions":[{"type":"publish","params":{"topic":"t","payload":'
        '{"version":1,"author":["a",{"hash":"}"}],"n":-0.5}}}], "author":null,"enabled":true } \n'
    ).replace("NAME", strange.replace("\\", "\\\\").replace('"', '\\"'))
    found = await site.functions.json("rule_upsert", "r1", text, ANN)
    assert (found["name"], found["version"], found["author"]) == (strange, 1, "ann")
    assert found["actions"][0]["params"]["payload"] == {"version": 1, "author": ["a", {"hash": "}"}], "n": -0.5}
    again = await site.functions.json("rule_enable", "r1", "false", ANN)
    assert said_of(again) == said_of(found) | {"enabled": False}


# ---------------------------------------------------------------- a second person

MARKED = {**RULE, "requires_approval": True}


def named(name: str) -> str:
    """Return what is proposed: the marked rule under another name, as a text."""
    return orjson.dumps({**MARKED, "name": name}).decode()


async def propose(site: Site, proposal: str, **what: Any) -> dict[str, Any]:
    asked = {"kind": "rule", "id": proposal, "by": "ann", **what}
    found: dict[str, Any] = await site.functions.json("definition_propose", "r1", asked)
    return found


async def test_a_marked_definition_changes_by_a_second_person_only(site: Site) -> None:
    """Change, switch, deletion, roll-back, and taking the mark off: none of it alone."""
    await put(site, RULE)
    await put(site, MARKED)
    for name, *arguments in (
        ("rule_upsert", "r1", RULE, BOB), ("rule_upsert", "r1", {**MARKED, "name": "x"}, BOB),
        ("rule_delete", "r1", BOB), ("rule_enable", "r1", "false", BOB),
        ("definition_rollback", "r1", {"kind": "rule", "version": 1, "by": "bob"}),
    ):  # fmt: skip
        async with refused(site.functions, StateError, "requires approval"):
            await site.functions.call(name, *arguments)
    made = await propose(site, "p1", definition=orjson.dumps({**RULE, "name": "off"}).decode(), reason="tested")
    assert (made["status"], made["base"], made["action"]) == ("pending", 2, "change")
    async with refused(site.functions, StateError, "ann proposed it; another person must approve"):
        await site.functions.call("definition_approve", "p1", ANN)
    done = await site.functions.json("definition_approve", "p1", {"by": "bob", "comment": "fine"})
    assert (done["status"], done["decided_by"], done["comment"]) == ("approved", "bob", "fine")
    rule = await site.functions.read_json("rule_get", "r1")
    assert (rule["name"], rule["author"], rule["reason"], rule["version"]) == ("off", "ann", "tested", 3)
    (newest, *_) = (await site.functions.read_json("definition_versions", "r1", {"kind": "rule"}))["items"]
    assert (newest["author"], newest["approved_by"]) == ("ann", "bob")
    assert (await put(site, RULE))["version"] == 4, "the mark is off"
    assert [one["what"] for one in await site.entries("voltage:events")] == ["proposal_pending", "proposal_approved"]


@pytest.mark.parametrize(("what", "left"), [({"delete": True}, None), ({"version": 1}, "first")])
async def test_deletions_and_roll_backs_are_proposed(site: Site, what: dict[str, Any], left: str | None) -> None:
    await put(site, {**MARKED, "name": "first"})
    await propose(site, "p1", definition=named("second"))
    await site.functions.call("definition_approve", "p1", BOB)
    await propose(site, "p2", **what)
    await site.functions.call("definition_approve", "p2", BOB)
    if left is None:
        with pytest.raises(NotFoundError):
            await site.functions.read("rule_get", "r1")
    else:
        assert (await site.functions.read_json("rule_get", "r1"))["name"] == left


async def test_a_proposal_ends(site: Site) -> None:
    """By its time, by a rejection, or because the definition went on."""
    await put(site, MARKED)
    for number in range(4):
        await propose(site, f"p{number}", definition=named(f"n{number}"), ttl_ms=1000 if number == 0 else 5000)
    await site.pass_ms(1000)
    async with refused(site.functions, StateError, "proposal p0 is expired"):
        await site.functions.call("definition_approve", "p0", BOB)
    await site.functions.call("definition_reject", "p1", ANN)
    await site.functions.call("definition_approve", "p2", BOB)
    async with refused(site.functions, ConflictError, "has version 2, not 1"):
        await site.functions.call("definition_approve", "p3", BOB)
    page = await site.functions.read_json("definition_proposals", None, {"of": "r1", "kind": "rule"})
    assert {one["id"]: one["status"] for one in page["items"]} == {
        "p0": "expired", "p1": "rejected", "p2": "approved", "p3": "pending",
    }  # fmt: skip
    whats = [one["what"] for one in await site.entries("voltage:events")]
    assert whats[-3:] == ["proposal_expired", "proposal_rejected", "proposal_approved"]


async def test_what_can_not_be_proposed(site: Site) -> None:
    await put(site, RULE)
    async with refused(site.functions, StateError, "requires no approval"):
        await propose(site, "p1", delete=True)
    await put(site, MARKED)
    async with refused(site.functions, InvalidError, "definition is missing"):
        await propose(site, "p1")
    for number in range(10):
        await propose(site, f"p{number}", delete=True)
    async with refused(site.functions, LimitError, "10 proposals wait"):
        await propose(site, "p10", delete=True)


async def test_an_applier_of_files_does_not_approve_them(site: Site) -> None:
    await put(site, MARKED)
    await propose(site, "p1", delete=True, by="file:ann")
    async with refused(site.functions, StateError, "another person"):
        await site.functions.call("definition_approve", "p1", ANN)


async def test_a_switch_by_another_rule_is_no_version_and_what_said_otherwise_is_a_change(site: Site) -> None:
    """So a file or an editor that says what it said before switches the rule on again."""
    await put(site, RULE)
    off = {"type": "disable_rule", "params": {"rule": "r1"}}
    other = {"name": "other", "conditions": [{**LEAF, "source": "comsrv:1001:T:2"}], "actions": [off]}
    await site.functions.call("rule_upsert", "other", other)
    await site.put({2: 20})
    switched = await site.functions.read_json("rule_get", "r1")
    assert (switched["enabled"], switched["version"], await versions(site)) == (False, 1, [(1, "created", "ann")])
    again = await put(site, RULE)
    assert (again.get("enabled", True), again["version"]) == (True, 2)
