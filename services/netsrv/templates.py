"""Templates: text with named fields and nothing else, so that no template can reach into the program."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from string import Formatter
from typing import Any, Final, NamedTuple

from libs.errors import InvalidError
from libs.validation import nearest

# Fields that are the same for all samples of a message, and those of one sample.
PLACES: Final = frozenset({"service", "owner", "channel", "model", "type", "point", "route", "network"})
FIELDS: Final = PLACES | {"ref", "value", "quality", "at_ms", "time", "image"}
_NUMBERS: Final = frozenset({"value", "at_ms", "image"})
_DECIMALS: Final = re.compile(r"\.[0-6]f")

Values = Mapping[str, Any]


class _Piece(NamedTuple):
    text: str
    field: str | None
    spec: str


class Template:
    """A parsed template, as in `site/{channel}/{point}` or `{ref}={value:.2f}`.

    Raises:
        InvalidError: a field is unknown, or its form is none of ours; the message names it.
    """

    def __init__(self, text: str, what: str, known: Collection[str] = FIELDS) -> None:
        self._pieces = _parse(text, what, known)
        self.fields = frozenset(piece.field for piece in self._pieces if piece.field)

    def text(self, values: Values) -> str:
        """Return the text with its fields filled in; what is absent is empty."""
        return "".join(
            piece.text + (_shown(values.get(piece.field), piece.spec) if piece.field else "") for piece in self._pieces
        )

    def json(self, values: Values) -> Any:
        """Return the text, or the number where the template is nothing but a number's field."""
        if len(self._pieces) == 1 and not self._pieces[0].text and self._pieces[0].field in _NUMBERS:
            value, spec = values.get(self._pieces[0].field or ""), self._pieces[0].spec
            return round(value, int(spec[1])) if spec and value is not None else value
        return self.text(values)


def _parse(text: str, what: str, known: Collection[str]) -> list[_Piece]:
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidError(f"{what}: {error}") from None
    pieces = []
    for literal, field, spec, conversion in parsed:
        if field is not None:
            if field not in known:
                raise InvalidError(f"{what}: {{{field}}} is no field{nearest(field, known)}")
            if conversion or (spec and (field != "value" or not _DECIMALS.fullmatch(spec))):
                raise InvalidError(f"{what}: {{{field}}} takes no form but {{value:.2f}}")
        pieces.append(_Piece(literal, field, spec or ""))
    return pieces


def _shown(value: Any, spec: str) -> str:
    if value is None:
        return ""
    if spec:
        return format(value, spec)
    return f"{value:.6f}" if isinstance(value, float) else str(value)
