"""OpenAPI 3.1, generated from the routes and their models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from libs.http.bodies import UPLOADS
from libs.http.problems import CONTENT_TYPE as PROBLEM_TYPE
from libs.http.routes import PATH_PATTERNS, Route
from libs.points import ID_PATTERN

# Where the schema of a (model, direction) is.
References = dict[tuple[Any, str], str]

REF: Final = "#/components/schemas/"
_PARAMETER: Final = re.compile(r"{(\w+)(?::[^}]*)?}")

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "required": ["title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def openapi(name: str, purpose: str, version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of a service."""
    listed = [route for route in routes if not route.raw]
    schemas, references = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"VoltageEMS {name}", "description": purpose, "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _schemas(routes: list[Route]) -> tuple[dict[str, Any], References]:
    """Return the schemas of all models, and where each (model, direction) is among them."""
    wanted: list[tuple[type[BaseModel], Any]] = []
    for route in routes:
        for model, mode in ((route.body, "validation"), (route.query, "validation"), (route.reply, "serialization")):
            if model is not None and (model, mode) not in wanted:
                wanted.append((model, mode))
    found, document = models_json_schema(wanted, ref_template=REF + "{model}")
    return document.get("$defs", {}), {(model, mode): str(schema["$ref"]) for (model, mode), schema in found.items()}


def _operation(route: Route, schemas: dict[str, Any], references: References) -> dict[str, Any]:
    summary, _, description = (route.handler.__doc__ or "").strip().partition("\n")
    operation: dict[str, Any] = {
        "operationId": getattr(route.handler, "__name__", route.path),
        "summary": summary,
        "description": " ".join(description.split()),
        "tags": [_tag(route.path)],
        "parameters": [*_path_parameters(route), *_query_parameters(route, schemas, references)],
        "responses": {
            str(route.status): _response(route, references),
            "default": {
                "description": "A problem",
                "content": {PROBLEM_TYPE: {"schema": {"$ref": f"{REF}Problem"}}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {
                "application/json": {"schema": {"$ref": references[route.body, "validation"]}},
                **({kind: {"schema": {"type": "string", "format": "binary"}} for kind in UPLOADS if route.uploads}),
            },
        }
    if not route.open:
        operation["security"] = [{"token": []}]
        operation["x-role"] = route.role.value
    return operation


def _tag(path: str) -> str:
    steps = path.strip("/").split("/")
    return steps[1] if len(steps) > 1 and steps[0] == "api" else "service"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": PATH_PATTERNS.get(name, ID_PATTERN)},
        }
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route, schemas: dict[str, Any], references: References) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = schemas[references[route.query, "validation"].removeprefix(REF)]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": inner}
        for name, inner in schema.get("properties", {}).items()
    ]


def _response(route: Route, references: References) -> dict[str, Any]:
    if route.status == 204:
        return {"description": "Done"}
    schema = {"$ref": references[route.reply, "serialization"]} if route.reply else {}
    return {"description": "Done", "content": {route.media: {"schema": schema}}}
