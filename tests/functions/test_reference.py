"""redis_functions/README.md: every function has its contract, and every line to paste works."""

from __future__ import annotations

import shlex

import orjson
import pytest

from libs.errors import NotFoundError, StateError
from libs.redis import bundle
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.commands import reference

FUNCTIONS = list(reference.functions())
# Ids that only a running system gives.
UNKNOWN = {"batch_acknowledge", "batch_fail", "dead_letter_resolve", "forward_complete"}
# In the Redis of a replay only.
NOT_HERE = {"replay_apply"}
BEFORE = (
    "channel_upsert", "channel_claim", "comsrv_ingest", "template_upsert", "model_upsert", "rule_upsert",
    "alarm_define", "store_alarm", "configure_mapping", "command_submit", "job_submit", "job_claim",
    "network_upsert", "route_upsert", "alarm_route_upsert", "calendar_upsert",
)  # fmt: skip
PROPOSED = {"definition_approve", "definition_reject"}
SHORTLY_BEFORE = {
    "command_complete": ["command_claim"], "point_untag": ["point_tag"], "point_restore": ["point_substitute"],
    "network_delete": ["route_delete"], "shadow_get": ["shadow_start"], "shadow_stop": ["shadow_start"],
    "shadow_promote": ["shadow_start"],
}  # fmt: skip


async def paste_before(functions: Functions, name: str) -> dict[str, list[str]]:
    """Paste what a function's line builds upon; return all lines."""
    lines = {one.name: shlex.split(one.call()) for one in FUNCTIONS}
    for other in [*BEFORE, *SHORTLY_BEFORE.get(name, ())]:
        await execute(functions.client, *lines[other])
    if name in {"definition_propose", *PROPOSED}:
        rule = orjson.loads(await functions.call("rule_get", "r1"))
        await functions.call("rule_upsert", "r1", rule | {"requires_approval": True})
    if name in PROPOSED:
        await execute(functions.client, *lines["definition_propose"])
    return lines


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_contract_block(function: reference.Function) -> None:
    """Summary, reply and example are there; a writer names what it writes."""
    fields = {field.name for field in function.fields}
    assert function.summary.endswith(".")
    assert {"Returns", "Example"} <= fields
    assert function.reads or function.name == "voltage_tick" or "Writes" in fields
    words = shlex.split(function.call())
    assert words[:2] in (["FCALL", function.name], ["FCALL_RO", function.name])


def test_readme_is_fresh() -> None:
    assert (bundle.root() / "README.md").read_text(encoding="utf-8") == reference.readme()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
async def test_the_line_to_paste(functions: Functions, function: reference.Function) -> None:
    """It works as it stands where the other lines of the page were pasted before."""
    lines = await paste_before(functions, function.name)
    if function.name in UNKNOWN | NOT_HERE:
        with pytest.raises(StateError if function.name in NOT_HERE else NotFoundError):
            await execute(functions.client, *lines[function.name])
    else:
        await execute(functions.client, *lines[function.name])
