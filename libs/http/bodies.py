"""Bodies and queries: bounded, parsed once, validated into frozen models."""

from __future__ import annotations

from typing import Any, Final, TypeVar, get_origin

import orjson
from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, ValidationError

from libs.errors import InvalidError, Problem
from libs.http.problems import UnparsableError
from libs.validation import Model, dotted, problems_of, shortened

MAX_BYTES: Final = 1_000_000
# Bodies that are files: passed on as a stream, to routes that take them.
UPLOADS: Final = {"text/csv": "csv", "application/vnd.apache.parquet": "parquet"}
MAX_UPLOAD_BYTES: Final = 1_000_000_000
# A tree of conditions may nest 32 deep, and each `all` costs an object and a list.
MAX_NESTING: Final = 72
SHOWN_STEPS: Final = 4

M = TypeVar("M", bound=BaseModel)


async def read_body(request: web.Request, model: type[M]) -> M:
    """Return the request's body as a model; no body is an empty document.

    Raises:
        UnparsableError: no JSON, 400.
        InvalidError: each field that is wrong, 422.
    """
    data = await request.read()
    return validate(model, parse_json(data) if data else {})


def read_query(query: MultiMapping[str], model: type[M]) -> M:
    """Return a query string as a model; a parameter may repeat where the field is a list."""
    values: dict[str, Any] = {}
    for name in set(query):
        found = query.getall(name)
        field = model.model_fields.get(name)
        many = field is not None and get_origin(field.annotation) in {list, tuple}
        if len(found) > 1 and not many:
            raise InvalidError(f"{name} is given {len(found)} times", [Problem(name, "is given more than once")])
        values[name] = found if many else found[0]
    return validate(model, values)


def validate(model: type[M], data: object) -> M:
    """Return data as a model, or raise INVALID with every field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, model)
        raise InvalidError(shortened(problems), problems) from None


def parse_json(data: bytes) -> Any:
    """Parse JSON text whose nesting is bounded."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise _too_deep("") from None
        raise UnparsableError(f"the body is no JSON: {error}") from None
    check_nesting(value)
    return value


def check_nesting(value: object) -> None:
    """Refuse data nested deeper than the limit, naming the field; without recursion."""
    layer: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    for _ in range(MAX_NESTING + 1):
        layer = [
            ((*path, key)[:SHOWN_STEPS], inner)
            for path, outer in layer
            if isinstance(outer, dict | list)
            for key, inner in (outer.items() if isinstance(outer, dict) else enumerate(outer))
        ]
        if not layer:
            return
    raise _too_deep(dotted(layer[0][0]))


def _too_deep(field: str) -> InvalidError:
    message = f"nested deeper than {MAX_NESTING}"
    return InvalidError(f"{field or 'the body'}: {message}", [Problem(field or "(document)", message)])


class NoQuery(Model):
    """For routes that take no query."""
