"""Whatever is given to whichever function: a reply, or a coded error; never INTERNAL."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from libs.redis import bundle
from libs.redis.resp import Connection, ReplyError
from services.commands import reference
from tests.support.servers import RedisServer

CODES = {"INVALID", "NOTFOUND", "CONFLICT", "STATE", "LIMIT"}
DEEP = '{"conditions":' * 40 + "1" + "}" * 40
ARGUMENTS = [
    [],
    [""],
    ["5"],
    ['"text"'],
    ["[]"],
    ["[1,2,3]"],
    ["{}"],
    ["nonsense"],
    ["true"],
    ["x" * 100, "y" * 100, "z" * 100],
    ['{"id":5,"name":5,"conditions":5,"actions":5,"points":5,"sections":5,"events":5,"mapping":5,"ids":5,"values":5}'],
    [
        '{"id":{},"name":{},"conditions":{"all":{}},"actions":{"a":1},"points":{"T":{}},"sections":{},"mapping":{"data":[]}}'
    ],
    ['{"id":[1],"name":[],"owner":[],"epoch":[],"seq":[],"source":[],"level":[],"tags":5,"limit":[],"cursor":[]}'],
    ['{"now_ms":"x"}'],
    ['{"now_ms":-1}'],
    ['{"limit":0}'],
    ['{"limit":1e9,"cursor":{}}'],
    ['{"type":"A","point":[],"value":[],"by":[],"state":[],"reason":{},"user":{},"kind":{},"until_ms":[]}'],
    [DEEP],
    ['{"a":NaN}'],
    ["\x00\xff"],
]
# What is there already, so that a call gets past "no such thing".
LEAF = '{"source":"comsrv:1001:T:1","operator":">","value":1}'
SEEDS = [
    ("channel_upsert", "1001", '{"name":"x","protocol":"virtual","points":{"T":[{"id":1}],"A":[{"id":1}]}}'),
    ("channel_claim", "1001", '{"owner":"x"}'),
    ("template_upsert", "x", '{"name":"x","class":"load","data_points":{"p":{"base_id":1}}}'),
    ("model_upsert", "x", '{"name":"x","mapping":{"channel":1001,"data":{"p":1},"action":{"a":"A:1"}}}'),
    ("rule_upsert", "x", f'{{"name":"x","conditions":[{LEAF}]}}'),
    ("alarm_define", "x", '{"source":"comsrv:1001:T:1","detector":"Hi","limit":1,"level":"Minor"}'),
    ("store_alarm", "x", '{"title":"x","level":"Minor","source":"x"}'),
    ("command_submit", "1001", '{"id":"x","type":"A","point":1,"value":1,"ttl_ms":600000}'),
]
KEYS = ["x", "1001", "a:b", "", "{plant7}:", "{plant7}:x", "rules", "é" * 40, "x" * 65]


@pytest.fixture(scope="module")
def connection(redis_server: RedisServer) -> Iterator[Connection]:
    """Give a connection to a server with the functions loaded and nothing in it."""
    with Connection(redis_server.url) as connected:
        connected.call("FLUSHALL")
        connected.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
        for name, key, document in SEEDS:
            assert refusal(connected, name, [key], [document]) == ""
        yield connected


def names(connection: Connection) -> list[str]:
    (library,) = connection.call("FUNCTION", "LIST", "LIBRARYNAME", "voltage")
    functions = library[library.index(b"functions") + 1]
    return sorted(item[item.index(b"name") + 1].decode() for item in functions)


def refusal(connection: Connection, name: str, keys: list[str], arguments: list[str]) -> str:
    """Call a function and return the error's text, or nothing."""
    try:
        connection.call("FCALL", name, len(keys), *keys, *arguments)
    except ReplyError as error:
        return str(error)
    return ""


def test_no_argument_is_a_defect_of_ours(connection: Connection) -> None:
    found = []
    for name in names(connection):
        for arguments in ARGUMENTS:
            for keys in ([], *([key] for key in KEYS)):
                text = refusal(connection, name, keys, arguments)
                if text and text.split(" ")[0] not in CODES:
                    found.append(f"{name} {keys} {arguments}: {bundle.bundle().explain(text)}")
    assert found == []


def spoiled(document: Any) -> Iterator[Any]:
    """Yield the document with one value after another, at any depth, in the place of which stands something else."""
    if isinstance(document, dict):
        yield document | {"surprise": 1}
    for place in document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        for value in WRONG:
            yield replaced(document, place, value)
        for below in spoiled(document[place]):
            yield replaced(document, place, below)


def replaced(document: Any, place: Any, value: Any) -> Any:
    copy = document.copy()
    copy[place] = value
    return copy


WRONG: list[Any] = [None, True, -1, 1.5, 1e300, "", "x", "a:b", [], [1], {}, {"a": 1}, [[]]]
LINES = [shlex.split(function.call()) for function in reference.functions()]
BEFORE = [
    line for line in LINES if line[1].endswith(("_upsert", "_submit", "_define", "_mapping")) or "claim" in line[1]
]


def test_no_spoiled_example_is_a_defect_of_ours(connection: Connection) -> None:
    """Each contract's example, with each of its values replaced by what does not belong there."""
    found = []
    for line in LINES:
        name, count = line[1], int(line[2])
        for number, argument in enumerate(line[3 + count :], 3 + count):
            if argument[:1] not in {"[", "{"}:
                continue
            for document in spoiled(orjson.loads(argument)):
                for before in BEFORE if name != "comsrv_ingest" else ():
                    refusal(connection, before[1], before[3 : 3 + int(before[2])], before[3 + int(before[2]) :])
                words = [*line[3:number], orjson.dumps(document).decode(), *line[number + 1 :]]
                text = refusal(connection, name, words[:count], words[count:])
                if text and text.split(" ")[0] not in CODES:
                    found.append(f"{name} {document}: {bundle.bundle().explain(text)}")
    assert found == []
