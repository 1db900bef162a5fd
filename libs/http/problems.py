"""Errors as problem details (RFC 9457), each with the product's own `code`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

from libs.errors import ConfigurationError, InvalidError, LimitError, Problem, UnauthorizedError, VoltageError

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
# What aiohttp itself answers, in our codes.
_CODES: Final = {400: "INVALID", 404: "NOTFOUND", 405: "NOTFOUND", 413: "LIMIT", 415: "INVALID"}


class UnparsableError(InvalidError):
    """The text is no JSON at all: 400 where other invalid input is 422."""

    status = 400


class TooLargeError(LimitError):
    """A body over its limit: 413 where other bounds are 429."""

    status = 413


def document(status: int, code: str, detail: str, problems: list[Problem] | None = None) -> dict[str, Any]:
    """Return a problem document; `errors` lists each field with its message."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if problems:
        body["errors"] = [{"field": problem.where, "message": problem.message} for problem in problems]
    return body


def response(status: int, code: str, detail: str, problems: list[Problem] | None = None) -> web.Response:
    """Return a problem document as a response."""
    body = orjson.dumps(document(status, code, detail, problems))
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE)


def of_error(error: Exception) -> web.Response:
    """Return the response for any error a handler raised.

    A defect of ours is logged with its traceback and tells the caller nothing else.
    """
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    if not isinstance(error, VoltageError):
        logger.error("unexpected error", exc_info=error)
        return response(500, "INTERNAL", "an internal error; the log says more")
    problems = error.problems if isinstance(error, InvalidError | ConfigurationError) else None
    answer = response(error.status, error.code, str(error), problems)
    if isinstance(error, UnauthorizedError):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _of_http(error: web.HTTPException) -> web.Response:
    """Return aiohttp's own answers (no route, wrong method, body too large) as problems."""
    detail = error.reason
    if isinstance(error, web.HTTPMethodNotAllowed):
        detail = f"{error.method} is not allowed here, only {', '.join(sorted(error.allowed_methods))}"
    elif isinstance(error, web.HTTPRequestEntityTooLarge):
        detail = "the body is too large"
    elif isinstance(error, web.HTTPNotFound):
        detail = "no such route"
    answer = response(error.status, _CODES.get(error.status, "INTERNAL"), detail)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer
