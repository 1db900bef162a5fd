"""The one expression grammar: + - * / comparisons, min, max, abs, if, references.

Parsed here, evaluated in Lua, for virtual points and calculated points alike. The
result is a program in reverse Polish notation, a JSON list of operations:

    comsrv:1001:T:1 * 2  ->  [["ref", "comsrv:1001:T:1"], ["num", 2.0], ["*"]]

Operations: ref, num, +, -, *, /, neg, <, <=, >, >=, ==, !=, [min, n], [max, n], abs, if
(pops condition, then, else). A comparison yields 1 or 0; zero is false.

A reference swallows every letter, digit, underscore and hyphen of its ids: write a
space before a minus that follows a model's point (`modsrv:pv1:active_power - 1`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from libs.errors import InvalidError
from libs.points import parse_reference

Operation = list[str | float | int]
Program = list[Operation]

MAX_LENGTH: Final = 4096
MAX_OPERATIONS: Final = 256
MAX_NESTING: Final = 32

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<ref>[A-Za-z_]\w*:(?:[\w-]+:[TSCA]:\d+|[\w-]+:[\w-]+))"
    r"|(?P<num>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign><=|>=|==|!=|[-+*/<>(),]))"
)
_COMPARISONS: Final = frozenset(("<", "<=", ">", ">=", "==", "!="))
# Least and greatest number of arguments.
_FUNCTIONS: Final = {"min": (1, 64), "max": (1, 64), "abs": (1, 1), "if": (3, 3)}


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


def parse(text: str) -> Program:
    """Compile an expression.

    Raises:
        InvalidError: the text is no expression; the message names the column (from 1).
    """
    if len(text) > MAX_LENGTH:
        raise InvalidError(f"an expression has at most {MAX_LENGTH} characters, this has {len(text)}")
    parser = _Parser(list(_tokens(text)))
    parser.comparison()
    if parser.current.kind != "end":
        parser.fail(f"unexpected {parser.current.text!r}")
    return parser.program


def references(program: Program) -> list[str]:
    """Return the references a program reads, each once, in order."""
    return list(dict.fromkeys(str(operation[1]) for operation in program if operation[0] == "ref"))


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            column = position + len(text[position:]) - len(text[position:].lstrip()) + 1
            raise InvalidError(f"column {column}: unexpected {text[column - 1]!r}")
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1)
        position = match.end()
    yield _Token("end", "", end + 1)


class _Parser:
    """Recursive descent; every level of nesting is counted, so the stack is bounded."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.program: Program = []

    @property
    def current(self) -> _Token:
        return self.tokens[self.position]

    def fail(self, message: str) -> None:
        raise InvalidError(f"column {self.current.column}: {message}")

    def take(self) -> _Token:
        token = self.current
        self.position += token.kind != "end"
        return token

    def expect(self, sign: str) -> None:
        if self.current.text != sign:
            self.fail(f"expected {sign!r}" + (f", found {self.current.text!r}" if self.current.text else ""))
        self.take()

    def emit(self, *operation: str | float) -> None:
        if len(self.program) >= MAX_OPERATIONS:
            self.fail(f"more than {MAX_OPERATIONS} operations")
        self.program.append(list(operation))

    def comparison(self) -> None:
        """Parse `sum [comparison sum]`; a chain like a < b < c is refused: it would not mean what it says."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"nested deeper than {MAX_NESTING}")
        self.sum()
        if self.current.text in _COMPARISONS:
            sign = self.take().text
            self.sum()
            self.emit(sign)
            if self.current.text in _COMPARISONS:
                self.fail("comparisons do not chain; use if(...)")
        self.depth -= 1

    def sum(self) -> None:
        self.product()
        while self.current.text in {"+", "-"}:
            sign = self.take().text
            self.product()
            self.emit(sign)

    def product(self) -> None:
        self.factor()
        while self.current.text in {"*", "/"}:
            sign = self.take().text
            self.factor()
            self.emit(sign)

    def factor(self) -> None:
        negative = False
        while self.current.text in {"-", "+"}:
            negative ^= self.take().text == "-"
        self.atom()
        if negative:
            self.emit("neg")

    def atom(self) -> None:
        token = self.current
        if token.kind == "num":
            value = float(token.text)
            if value == float("inf"):
                self.fail(f"{token.text} is not finite")
            self.take()
            self.emit("num", value)
        elif token.kind == "ref":
            try:
                reference = parse_reference(token.text)
            except InvalidError as error:
                raise InvalidError(f"column {token.column}: {error}") from None
            self.take()
            self.emit("ref", str(reference))
        elif token.kind == "name":
            self.function()
        elif token.text == "(":
            self.take()
            self.comparison()
            self.expect(")")
        else:
            self.fail(f"expected a value, found {token.text!r}" if token.text else "the expression ends too early")

    def function(self) -> None:
        name = self.current.text
        if name not in _FUNCTIONS:
            self.fail(f"unknown name {name!r}; functions are {', '.join(_FUNCTIONS)}")
        least, greatest = _FUNCTIONS[name]
        self.take()
        self.expect("(")
        count = 1
        self.comparison()
        while self.current.text == ",":
            self.take()
            self.comparison()
            count += 1
        if not least <= count <= greatest:
            wanted = str(least) if least == greatest else f"{least} to {greatest}"
            self.fail(f"{name} takes {wanted} arguments, not {count}")
        self.expect(")")
        self.emit(name, count) if name in {"min", "max"} else self.emit(name)
