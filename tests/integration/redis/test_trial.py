"""Calls tried in a Redis of their own are refused as the site's would refuse them, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.definitions import Call
from libs.redis.server import Binary
from libs.redis.trial import tried
from tests.support.servers import BINARIES


@pytest.fixture(params=sorted(BINARIES))
def binary(request: pytest.FixtureRequest) -> Binary:
    """Give the server to try things in, each kind in turn."""
    return Binary(Path(BINARIES[request.param]()), "", "of the tests")


def limit(name: str, detector: str, value: float) -> Call:
    """Return the call that sets a limit of one point."""
    document = {"id": name, "source": "comsrv:1:T:1", "detector": detector, "limit": value, "level": "Major"}
    return Call(f"alarm definition {name}", f"a.yaml:{value}", "alarm_define", name, (document,))


def put(function: str, name: str, **said: object) -> Call:
    """Return a call that stores a definition."""
    return Call(name, f"{name}.yaml:1", function, name, ({"id": name, "name": name, **said},))


def test_what_is_stored_counts_and_two_limits_may_move_together(binary: Binary) -> None:
    """The lower one is refused until the upper one has moved; the stored one of another author stands."""
    stored = [limit("hi", "Hi", 10), limit("lo", "Lo", 5)]
    raised = [limit("lo", "Lo", 30), limit("hi", "Hi", 40)]
    assert tried(binary, stored, {"alarmsrv": raised}) == {"alarmsrv": []}
    (problem,) = tried(binary, stored, {"alarmsrv": [raised[0]]})["alarmsrv"]
    assert problem.where == "a.yaml:30"
    assert "limit 30 of Lo is above the limit 10 of Hi in alarm definition hi" in problem.message


def test_all_of_all_parts_is_refused_at_once_but_not_what_only_waits_for_another(binary: Binary) -> None:
    """A model whose template is refused itself is not to blame; one whose template nobody names is."""
    models = [
        put("template_upsert", "ill", data_points={"p": {"base_id": 0}}),
        put("model_upsert", "waits", template="ill", mapping={"channel": 1}),
        put("model_upsert", "unread", template="other", mapping={"channel": 1}),
        put("model_upsert", "lost", template="none", mapping={"channel": 1}),
    ]
    parts = {"modsrv": models, "alarmsrv": [limit("hi", "Hi", 1), limit("lo", "Lo", 2)]}
    found = tried(binary, [], parts, {"modsrv": frozenset(["other"])})
    assert [str(problem).partition(": ")[0] for problem in found["modsrv"]] == ["ill.yaml:1", "lost.yaml:1"]
    assert found["modsrv"][1].message == "lost: there is no template none"
    assert [problem.where for problem in found["alarmsrv"]] == ["a.yaml:2"]
