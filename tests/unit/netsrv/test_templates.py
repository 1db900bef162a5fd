"""Templates: named fields and nothing else."""

from __future__ import annotations

import pytest

from libs.errors import InvalidError
from services.netsrv.schemas import topic_matches
from services.netsrv.templates import Template

VALUES = {"ref": "comsrv:1:T:2", "value": 1.5, "quality": "good", "at_ms": 7, "channel": "1"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{ref}={value}", "comsrv:1:T:2=1.500000"),
        ("{value:.1f} at {at_ms}", "1.5 at 7"),
        ("{{{channel}}}", "{1}"),
        ("[{model}]", "[]"),
        ("", ""),
    ],
)
def test_text(template: str, text: str) -> None:
    assert Template(template, "t").text(VALUES) == text


def test_a_lone_number_stays_one() -> None:
    """As JSON, {value} is a number; with anything around it, or another field, a text."""
    assert Template("{value}", "t").json(VALUES) == 1.5
    assert Template("{value:.0f}", "t").json(VALUES) == 2
    assert Template("{value}", "t").json({"value": None}) is None
    assert Template("{value}kW", "t").json(VALUES) == "1.500000kW"
    assert Template("{quality}", "t").json(VALUES) == "good"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{valu}", "t: {valu} is no field; did you mean value?"),
        ("{value.__class__}", "t: {value.__class__} is no field"),
        ("{value[0]}", "t: {value[0]} is no field"),
        ("{}", "t: {} is no field"),
        ("{0}", "t: {0} is no field"),
        ("{value!r}", "t: {value} takes no form but"),
        ("{value:>999999999}", "t: {value} takes no form but"),
        ("{ref:.2f}", "t: {ref} takes no form but"),
        ("{value:{ref}}", "t: {value} takes no form but"),
        ("{value", "t: "),
        ("}", "t: "),
    ],
)
def test_anything_else_is_refused_by_name(template: str, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Template(template, "t")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/b", "a", False),
        ("a", "a/b", False),
    ],
)
def test_topic_filters(topic_filter: str, topic: str, matches: bool) -> None:
    """As MQTT 3.1.1 section 4.7 says."""
    assert topic_matches(topic_filter, topic) is matches
