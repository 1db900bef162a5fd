"""The one base of models at the edges, and what is wrong with an input, said to people.

Outside data (YAML, HTTP bodies, queries) is parsed once into frozen models
that refuse unknown keys and numbers that are not finite. What pydantic finds
wrong becomes a list of `Problem`, each with its place and the nearest name.
"""

from __future__ import annotations

import copy
import difflib
import re
import typing
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from libs.errors import InvalidError, Problem
from libs.numbers import readable
from libs.points import (
    ID_PATTERN,
    REFERENCE_PATTERN,
    TEXT_REFERENCE_PATTERN,
    check_id,
    is_text_reference,
    parse_reference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pydantic import GetCoreSchemaHandler

SHOWN_INPUT: Final = 60
SHOWN_PROBLEMS: Final = 4  # in the one line of an answer; its list has them all
# Stands for a place where there is none.
UNPLACED: Final = "(document)"
# What pydantic adds of how it read a text; the text itself says enough.
_PARSED: Final = re.compile(r", unable to .*$")
# How pydantic begins: "input should ...", "string should ...".
_SHOULD: Final = re.compile(r"^\w+ should ", re.IGNORECASE)

Path = tuple[str | int, ...]
M = typing.TypeVar("M", bound=BaseModel)


def _number(value: object) -> object:
    """Refuse true and false where a number belongs; pydantic takes them for 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "must be a number")
    return value


def _flag(value: object) -> object:
    """Refuse 1 and 0 where true or false belong."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise PydanticCustomError("flag_expected", "must be true or false")
    return value


_KEPT_APART: Final = {"int": _number, "float": _number, "bool": _flag}


def _apart(schema: Any) -> Any:
    """Return pydantic's schema with numbers and truth values kept apart everywhere in it."""
    if isinstance(schema, list):
        return [_apart(each) for each in schema]
    if isinstance(schema, tuple):
        return tuple(_apart(each) for each in schema)
    if not isinstance(schema, dict):
        return schema
    # A mapping of field names to their schemas has no type, or one that is itself a field's schema.
    kind = schema.get("type")
    plain = {"metadata", "default"} if isinstance(kind, str) else ()
    inner = {key: value if key in plain else _apart(value) for key, value in schema.items()}
    check = _KEPT_APART.get(kind) if isinstance(kind, str) else None
    return core_schema.no_info_before_validator_function(check, inner) if check else inner


class Model(BaseModel):
    """Base of every model at an edge: frozen, nothing unknown, finite numbers, `false` is no 0."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> Any:
        """Keep numbers and truth values apart in all fields."""
        return _apart(handler(source))


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Turn one of our checks, which raise InvalidError, into a pydantic validator."""

    def validate(text: str) -> str:
        try:
            check(text)
        except InvalidError as error:
            raise ValueError(str(error)) from None
        return text

    return validate


Id = Annotated[str, AfterValidator(_checked(check_id)), WithJsonSchema({"type": "string", "pattern": ID_PATTERN})]
"""An id: `[A-Za-z0-9_-]{1,64}` and no reserved word."""

Ref = Annotated[
    str,
    AfterValidator(_checked(parse_reference)),
    WithJsonSchema({"type": "string", "pattern": REFERENCE_PATTERN, "examples": ["comsrv:1001:T:1"]}),
]
"""A reference to a point, kept as text."""


WatchedRef = Annotated[
    str,
    AfterValidator(_checked(lambda text: is_text_reference(text) or parse_reference(text))),
    WithJsonSchema({"type": "string", "pattern": f"{REFERENCE_PATTERN}|{TEXT_REFERENCE_PATTERN}"}),
]
"""A reference that a condition may watch: to a point, or to a text point (`comsrv:1001:X:7`)."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean X?" for the closest of the names, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def dotted(path: Path) -> str:
    """Write a path as people do: `channels[0].parameters.port`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def models_in(annotation: object) -> list[type[BaseModel]]:
    """Return the models an annotation mentions, through unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]


def _known_names(model: type[BaseModel], path: Path) -> set[str]:
    """Return the keys that could stand at the last step of a path.

    Steps that are no field (list positions, dict keys, pydantic's union tags)
    are passed over, so this is a good guess, which is what a hint needs.
    """
    models = [model]
    for step in path[:-1]:
        fields = [each.model_fields[step] for each in models if step in each.model_fields]
        if fields:
            models = [inner for field in fields for inner in models_in(field.annotation)]
    return {field.alias or name for each in models for name, field in each.model_fields.items()}


# The step by which pydantic names an alternative of a union, where it is no model: `list[str]`, `function-before[...]`.
_ALTERNATIVE: Final = re.compile(
    r"(str|int|float|bool|(constrained|function|list|tuple|dict|union|nullable|literal)\b.*)"
)
# What an input has to be, by the kinds of finding that say that it is not.
_SHAPES: Final = {
    "true or false": {"bool_type", "bool_parsing", "flag_expected"},
    "a number": {"int_type", "int_parsing", "int_from_float", "float_type", "float_parsing", "number_expected"},
    "a text": {"string_type"},
    "a list": {"list_type", "tuple_type"},
    "a mapping": {"dict_type", "model_type"},
}
_SHAPE: Final = {kind: said for said, kinds in _SHAPES.items() for kind in kinds}


def misplaced(field: str, message: str) -> PydanticCustomError:
    """Return what a check over several fields raises where one of them is to blame."""
    return PydanticCustomError("misplaced", "{message}", {"message": message, "field": field})


def _names(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    """Return the names of all models in a model."""
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for inner in models_in(field.annotation):
                _names(inner, seen)
    return {each.__name__ for each in seen}


def _union(path: Path, models: set[str]) -> int | None:
    """Return where a path names an alternative of a union; the first step is always a field."""
    for position, step in enumerate(path[1:], 1):
        if isinstance(step, str) and (_ALTERNATIVE.fullmatch(step) or step in models):
            return position
    return None


def _decided(found: list[dict[str, Any]], models: set[str]) -> list[dict[str, Any]]:
    """Let one alternative of each union speak, where pydantic complains for each of them.

    It is the one that has the shape of the input, with the least to complain; where none has it, they are named.
    """
    kept: list[dict[str, Any]] = []
    unions: dict[Path, dict[str | int, list[dict[str, Any]]]] = {}
    for item in found:
        path: Path = item["loc"]
        at = _union(path, models)
        if at is None:
            kept.append(item)
        else:
            rest = {**item, "loc": path[:at] + path[at + 1 :]}
            unions.setdefault(path[:at], {}).setdefault(path[at], []).append(rest)
    for place, alternatives in unions.items():
        fitting = [
            items for items in alternatives.values()
            if any(item["loc"] != place or item["type"] not in _SHAPE for item in items)
        ]  # fmt: skip
        if fitting:
            kept += _decided(min(fitting, key=len), models)
        else:
            items = [item for each in alternatives.values() for item in each]
            wanted = ", ".join(dict.fromkeys(_SHAPE[item["type"]] for item in items))
            before, _, last = wanted.rpartition(", ")
            kept.append({**items[0], "type": "shape", "msg": f"must be {f'{before} or ' if before else ''}{last}"})
    return kept


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    where: Callable[[Path], str] = dotted,
) -> list[Problem]:
    """Translate pydantic's findings.

    Args:
        error: what validation raised.
        model: the model that was validated, for "did you mean".
        where: names the place of a path (`file:line`, a variable); the path
            itself is in the message when the place doesn't show it.
    """
    problems = []
    found = _decided([dict(item) for item in error.errors(include_url=False)], _names(model, set()))
    for item in found:
        own = item["loc"]
        if item["type"] == "too_short" and any(one["loc"][: len(own)] == own != one["loc"] for one in found):
            continue  # pydantic counts the right ones; those that are wrong are there, and told.
        # Tags of unions, written in angle brackets, are no part of the document, nor is the word for a bad key.
        path: Path = tuple(step for step in item["loc"] if not str(step).startswith("<") and step != "[key]")
        if item["type"] == "misplaced":
            path += (item["ctx"]["field"],)
        place, name = where(path), dotted(path)
        message = _message(item, model, path)
        if place != name and name:
            message = f"{name}: {message}"
        problems.append(Problem(place or UNPLACED, message))
    return problems


def examined(model: type[M], data: Any, where: Callable[[Path], str] = dotted) -> tuple[M | None, list[Problem]]:
    """Validate a document; return the model, if it could be made, and all that is wrong.

    A model's own checks over several fields run only when each field is right, so
    unknown keys, which are the most frequent slip, are left out and the rest is tried again.
    """
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        problems = problems_of(error, model, where)
        unknown = [item["loc"] for item in error.errors(include_url=False) if item["type"] == "extra_forbidden"]
    if not unknown:
        return None, problems
    try:
        return model.model_validate(_without(data, unknown)), problems
    except ValidationError as error:
        return None, problems + [one for one in problems_of(error, model, where) if one not in problems]


def _without(data: Any, paths: list[Path]) -> Any:
    """Return a copy of a document without some of its members; steps of a path that are not in it are passed over."""
    rest = copy.deepcopy(data)
    for *parents, last in paths:
        place = rest
        for step in parents:
            if isinstance(place, dict) and step in place:
                place = place[str(step)]
            elif isinstance(place, list) and isinstance(step, int):
                place = place[step]
        if isinstance(place, dict):
            place.pop(str(last), None)
    return rest


# What is wrong, for people, with what pydantic says of it.
_SAID: Final = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}, not {actual_length}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a finite number",
}
# What `worded` gave: the form of a text by its pattern.
_FORMS: Final[dict[str, str]] = {}


def worded(pattern: str, words: str) -> str:
    """Return a pattern for a field, and keep the words that people are told instead: `must be <words>`."""
    _FORMS[pattern] = words
    return pattern


Pattern = Annotated[
    str,
    Field(
        max_length=256,
        pattern=worded(r"^[A-Za-z0-9_:*?-]+$", "a reference, in which * and ? stand for others, as comsrv:1001:T:*"),
    ),
]
"""A pattern over references."""

HttpUrl = Annotated[
    str,
    Field(max_length=2048, pattern=worded(r"^https?://[^/@\s]+(/\S*)?$", "an address as https://host/path")),
]
"""An address that is posted to; it carries no user."""


def _said(item: dict[str, Any]) -> str:
    """Return what pydantic found in words for people, without the value."""
    kind, value = item["type"], item.get("input")
    context = {name: _plain(bound) for name, bound in item.get("ctx", {}).items()}
    if kind == "string_pattern_mismatch":
        return f"must be {_FORMS.get(item['ctx']['pattern'], 'of the form ' + item['ctx']['pattern'])}"
    if kind in {"literal_error", "enum"}:
        return f"must be {context['expected']}"
    if kind in _SAID:
        return "must not be empty" if kind == "string_too_short" and value == "" else _SAID[kind].format(**context)
    if kind in _SHAPE:
        return f"must be {_SHAPE[kind]}"
    text = _PARSED.sub("", str(item["msg"]))
    text = _SHOULD.sub("must ", text)
    return text[:1].lower() + text[1:]


def _plain(value: object) -> str:
    """Write a bound, or the words that are taken, as people do."""
    return readable(value) if isinstance(value, float) else str(value).replace("'", "")


def shortened(problems: Sequence[Problem]) -> str:
    """Return problems in a line: the first of them, and how many more there are."""
    more = len(problems) - SHOWN_PROBLEMS
    return "; ".join([*map(str, problems[:SHOWN_PROBLEMS]), *([f"and {more} more"] if more > 0 else [])])


def _message(item: dict[str, Any], model: type[BaseModel], path: Path) -> str:
    """Return one finding in a few words, with the value where that helps."""
    kind = item["type"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(path[-1]), _known_names(model, path))}"
    if kind == "missing":
        return "is required"
    if kind == "union_tag_invalid":
        expected = str(item["ctx"]["expected_tags"]).translate(str.maketrans("", "", "<>'"))
        return f"must be one of {expected}"
    if kind in {"value_error", "misplaced"}:
        return str(item["msg"]).removeprefix("Value error, ")
    text, value = _said(item), item.get("input")
    if kind == "string_too_long":
        return f"{text}, not {len(str(value))}"
    if value != "" and isinstance(value, (str, int, float, bool)):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        text += f", not {shown if len(shown) <= SHOWN_INPUT else shown[:SHOWN_INPUT] + '...'}"
    return text
