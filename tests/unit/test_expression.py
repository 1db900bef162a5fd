"""The expression grammar: what it compiles to, and how it says no."""

import pytest

from libs.errors import InvalidError
from libs.expression import MAX_LENGTH, parse, references


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("comsrv:1001:T:1 * 2", [["ref", "comsrv:1001:T:1"], ["num", 2.0], ["*"]]),
        ("1 + 2 * 3", [["num", 1.0], ["num", 2.0], ["num", 3.0], ["*"], ["+"]]),
        ("(1 + 2) / 4", [["num", 1.0], ["num", 2.0], ["+"], ["num", 4.0], ["/"]]),
        ("-comsrv:1001:T:1-2", [["ref", "comsrv:1001:T:1"], ["neg"], ["num", 2.0], ["-"]]),
        ("--1", [["num", 1.0]]),
        ("min(1, 2, 3)", [["num", 1.0], ["num", 2.0], ["num", 3.0], ["min", 3]]),
        (
            "if(1 >= 2, .5, abs(3e2))",
            [["num", 1.0], ["num", 2.0], [">="], ["num", 0.5], ["num", 300.0], ["abs"], ["if"]],
        ),
        ("modsrv:pv1:active_power != 0", [["ref", "modsrv:pv1:active_power"], ["num", 0.0], ["!="]]),
    ],
)
def test_it_compiles_to_reverse_polish(text: str, program: list[list[object]]):
    assert parse(text) == program


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: the expression ends too early"),
        ("1 +", "column 4: the expression ends too early"),
        ("1 $ 2", "column 3: unexpected '$'"),
        ("1 2", "column 3: unexpected '2'"),
        ("1 < 2 < 3", "column 7: comparisons do not chain"),
        ("sin(1)", "column 1: unknown name 'sin'"),
        ("abs(1, 2)", "abs takes 1 arguments, not 2"),
        ("if(1, 2)", "if takes 3 arguments, not 2"),
        ("min(1", "expected ')'"),
        ("1 + comsrv:x:T:1", "column 5"),
        ("1e999", "not finite"),
        ("(" * 1000 + "1" + ")" * 1000, "nested deeper than 32"),
        ("-" * 2000 + "(" * 40 + "1", "nested deeper"),
        ("+".join(["1"] * 200), "more than 256 operations"),
        ("1" * (MAX_LENGTH + 1), "at most 4096 characters"),
    ],
)
def test_errors_name_the_column(text: str, message: str):
    with pytest.raises(InvalidError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_references_are_listed_once():
    assert references(parse("comsrv:1:T:1 + comsrv:2:S:1 * comsrv:1:T:1")) == ["comsrv:1:T:1", "comsrv:2:S:1"]
