"""What is wrong with the section `notifications`, all at once."""

from __future__ import annotations

from libs.validation import examined
from services.alarmsrv.notify.settings import NotificationSettings


def test_targets_without_a_way_are_named_beside_other_problems() -> None:
    """In routes and in steps of escalation, whether the route is right otherwise or not."""
    section = {
        "rate": {"per_hour": 0},
        "webhooks": {"pager": {"url": "http://127.0.0.1:9", "secret": "whsec_" + "A" * 32}},
        "routes": [
            {"id": "a", "levels": ["Bad"], "to": ["webhook:nope", "webhook:pager", "foo:bar"]},
            {"id": "b", "to": ["email:a@b.example"], "escalation": [{"after_s": 9, "to": ["mqtt:a/b"]}]},
        ],
    }
    _, problems = examined(NotificationSettings, section)
    assert {problem.where: problem.message.partition(":")[0] for problem in problems if "routes" in problem.where} == {
        "routes[0].levels[0]": "must be Critical, Major, Minor, Warning or Info, not 'Bad'",
        "routes[0].to[0]": "there is no webhook nope in notifications.webhooks",
        "routes[0].to[2]": "'foo",
        "routes[1].to[0]": "notifications.email is not configured",
        "routes[1].escalation[0].to[0]": "notifications.mqtt is not configured",
    }
    assert [problem.where for problem in problems if "routes" not in problem.where] == ["rate.per_hour"]
    section |= {"rate": {}, "routes": [{"id": "b", "to": ["mqtt:a/b"]}]}
    assert [problem.where for problem in examined(NotificationSettings, section)[1]] == ["routes[0].to[0]"]
    made, problems = examined(NotificationSettings, {**section, "routes": [{"id": "b", "to": ["webhook:pager"]}]})
    assert problems == []
    assert made is not None
    assert made.routes[0].to == ("webhook:pager",)
