"""Key names: one table, the Lua made from it, no key text anywhere else."""

from __future__ import annotations

import re

from libs.redis import keys


def test_names_and_patterns_are_unique() -> None:
    specs = keys.KEYS + keys.CHANNELS
    assert len({spec.name for spec in specs}) == len(specs)
    assert len({re.sub(r"\{\w+\}", "*", spec.pattern) for spec in specs}) == len(specs)


def test_every_key_belongs_to_the_service_in_its_first_word() -> None:
    for spec in keys.KEYS + keys.CHANNELS:
        assert spec.pattern.split(":")[0] == spec.owner
        assert spec.type in {"string", "hash", "set", "zset", "list", "stream", "channel"}
        assert spec.doc


def test_a_key_is_made_from_its_fields() -> None:
    assert keys.key("values", ch=1001, type="T") == "comsrv:1001:T"
    assert keys.prefix("plant7") == "{plant7}:"
    assert keys.prefix("") == ""


def test_the_lua_is_fresh() -> None:
    assert keys.LUA_PATH.read_text(encoding="utf-8") == keys.lua_source()
