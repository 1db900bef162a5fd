"""Whatever the sequence of calls, a model's values are its points' values, and the reverse index is exact."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from libs.numbers import format_value
from libs.redis import library
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.site import Site

MODELS = ("a", "b", "c")
NAMES = ("p", "q", "r")
CHANNELS = (1001, 1002)
REFS = st.builds("comsrv:{}:T:{}".format, st.sampled_from(CHANNELS), st.integers(1, 3))
OPERATIONS = st.one_of(
    st.tuples(st.just("model"), st.sampled_from(MODELS), st.dictionaries(st.sampled_from(NAMES), REFS)),
    st.tuples(st.just("delete"), st.sampled_from(MODELS)),
    st.tuples(st.just("put"), st.sampled_from(CHANNELS), st.dictionaries(st.integers(1, 3), st.integers(0, 9))),
    st.tuples(st.just("bad"), st.sampled_from(CHANNELS), st.integers(1, 3)),
    st.tuples(st.just("reload")),
)


class Oracle:
    """Points by reference, models by name."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, str]] = {}
        self.values: dict[str, str] = {}
        self.bad: set[str] = set()

    def reverse(self, channel: int) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        for model, names in sorted(self.models.items()):
            for name, ref in sorted(names.items()):
                if ref.startswith(f"comsrv:{channel}:"):
                    found.setdefault(ref.split(":", 2)[2], []).append([model, name])
        return found


async def carry_out(sites: dict[int, Site], oracle: Oracle, operation: tuple[Any, ...]) -> None:
    """Do one operation to both."""
    name, *arguments = operation
    functions = sites[1001].functions
    if name == "model":
        model, data = arguments
        await functions.call("model_upsert", model, {"name": model, "mapping": {"data": data}})
        oracle.models[model] = data
    elif name == "delete" and arguments[0] in oracle.models:
        await functions.call("model_delete", arguments[0])
        del oracle.models[arguments[0]]
    elif name == "put":
        channel, values = arguments
        await sites[channel].put(values)
        for point, value in values.items():
            oracle.values[f"comsrv:{channel}:T:{point}"] = format_value(value)
            oracle.bad.discard(f"comsrv:{channel}:T:{point}")
    elif name == "bad":
        channel, point = arguments
        await sites[channel].put({}, {point: "bad:timeout"})
        oracle.bad.add(f"comsrv:{channel}:T:{point}")
    elif name == "reload":  # what was compiled is gone; the keys alone must do
        await library.load(functions.client)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATIONS, max_size=20))
async def test_any_sequence(functions: Functions, operations: list[tuple[Any, ...]]) -> None:
    await execute(functions.client, "FLUSHALL")
    sites = {channel: await Site(functions, channel).start() for channel in CHANNELS}
    oracle = Oracle()
    for operation in operations:
        await carry_out(sites, oracle, operation)
        for channel in CHANNELS:
            found = (await functions.read_json("model_reverse_lookup", channel))["points"]
            assert {point: sorted(owners) for point, owners in found.items()} == oracle.reverse(channel)
        for model in MODELS:
            names = oracle.models.get(model, {})
            values = {name: oracle.values[ref] for name, ref in names.items() if ref in oracle.values}
            assert await sites[1001].hash(f"modsrv:{model}:measurement") == values
            marks = {name: "bad:timeout" for name, ref in names.items() if ref in oracle.bad}
            assert await sites[1001].hash(f"modsrv:{model}:measurement:q") == marks
