"""Routes: one decorator that checks the token and role, validates, and feeds OpenAPI.

A handler gets the request and, where declared, `query` and `body` as models.
It returns a model, a dict or list, `Json` (encoded already), None (204) or an
aiohttp response. The order of checks is token, role, path, query, body.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel

from libs.errors import ForbiddenError, InvalidError, Problem
from libs.http import tokens
from libs.http.bodies import UPLOADS, NoQuery, read_body, read_query
from libs.http.tokens import Role, User
from libs.points import NUMBER_PATTERN, PointKind, check_id, check_number

TOKEN_KEY: Final = web.AppKey("token_key", str)
USER: Final = web.RequestKey("user", User)


@dataclass(frozen=True)
class Json:
    """JSON text that is passed on as it is, and headers to go with it."""

    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Reply = BaseModel | dict[str, Any] | list[Any] | Json | web.StreamResponse | None
Handler = Callable[..., Awaitable[Reply]]


def _check_kind(text: str, what: str) -> None:
    if text not in list(PointKind):
        raise InvalidError(f"{what} {text!r} must be T, S, C or A")


# An alarm, or what alarms come from and can be marked by (redis_functions/alarmsrv/marks.lua).
ALARM_PATTERN: Final = (
    r"^([A-Za-z0-9_-]{1,64}|(alarm|group|equipment):[A-Za-z0-9_-]{1,64}"
    r"|rule:[A-Za-z0-9_-]{1,64}#[1-9][0-9]*|comsrv:[1-9][0-9]*(:unit:[A-Za-z0-9_-]{1,64})?)$"
)


def _check_alarm(text: str, what: str) -> None:
    if not re.fullmatch(ALARM_PATTERN, text):
        raise InvalidError(
            f"{what} {text!r} must be an alarm's id, or alarm:<definition>, group:<group>, equipment:<equipment>, "
            "rule:<rule>#<n>, comsrv:<channel> or comsrv:<channel>:unit:<unit>"
        )


# A path's parameters mean the same on every route.
PATH_CHECKS: Final[dict[str, Callable[[str, str], object]]] = {
    "id": check_id,
    "name": check_id,
    "proposal": check_id,
    "number": check_number,
    "ch": check_number,
    "point": check_number,
    "type": _check_kind,
    "alarm": _check_alarm,
}
PATH_PATTERNS: Final = {
    "ch": NUMBER_PATTERN,
    "number": NUMBER_PATTERN,
    "point": NUMBER_PATTERN,
    "type": "^[TSCA]$",
    "alarm": ALARM_PATTERN,
}


@dataclass(frozen=True)
class Route:
    """A route and what it takes and gives."""

    method: str
    path: str
    handler: Handler
    role: Role
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    reply: type[BaseModel] | None
    status: int
    open: bool
    raw: bool
    media: str
    uploads: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Check, parse, call the handler, and encode its answer."""
        if not self.open:
            authorize(request, self.role)
        if self.raw:
            return encode(await self.handler(request), self.status)
        for name, text in request.match_info.items():
            if check := PATH_CHECKS.get(name):
                _checked(check, text, name)
        arguments: dict[str, BaseModel] = {}
        query = read_query(request.query, self.query or NoQuery)
        if self.query is not None:
            arguments["query"] = query
        if self.body is not None and not (self.uploads and request.content_type in UPLOADS):
            arguments["body"] = await read_body(request, self.body)
        return encode(await self.handler(request, **arguments), self.status)


class Routes:
    """A service's routes, in the order they were declared."""

    def __init__(self) -> None:
        """Start without any."""
        self.routes: list[Route] = []

    def add(  # noqa: D417 - the rest is said by the models
        self,
        method: str,
        path: str,
        *,
        role: Role = Role.VIEWER,
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        reply: type[BaseModel] | None = None,
        status: int = 200,
        open: bool = False,  # noqa: A002 - reads best where it is used
        raw: bool = False,
        media: str = "application/json",
        uploads: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Declare a route.

        Args:
            role: the lowest role that may call it.
            open: anybody may call it.
            raw: the handler looks at path, query and body itself.
            media: the content type of its answer.
            uploads: the body may be a file instead (UPLOADS): then there is no `body`, and the handler reads it.
        """

        def keep(handler: Handler) -> Handler:
            self.routes.append(
                Route(method, path, handler, role, body, query, reply, status, open, raw, media, uploads)
            )
            return handler

        return keep

    def include(self, others: Routes) -> None:
        """Take over the routes that another file declares."""
        self.routes += others.routes

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a GET route; see `add`."""
        return self.add(hdrs.METH_GET, path, **options)

    def post(self, path: str, *, role: Role, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a POST route; see `add`."""
        return self.add(hdrs.METH_POST, path, role=role, **options)

    def put(self, path: str, *, role: Role, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PUT route; see `add`."""
        return self.add(hdrs.METH_PUT, path, role=role, **options)

    def patch(self, path: str, *, role: Role, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PATCH route; see `add`."""
        return self.add(hdrs.METH_PATCH, path, role=role, **options)

    def delete(self, path: str, *, role: Role, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a DELETE route; see `add`."""
        return self.add(hdrs.METH_DELETE, path, role=role, **options)


def authorize(request: web.Request, role: Role = Role.VIEWER) -> User:
    """Check the request's token and role, and keep the user as `request[USER]`.

    Raises:
        UnauthorizedError: no valid token.
        ForbiddenError: the role is too low.
    """
    token = tokens.bearer(request.headers.get(hdrs.AUTHORIZATION))
    user = tokens.verify(request.config_dict[TOKEN_KEY], token)
    if not user.role.includes(role):
        raise ForbiddenError(f"needs the role {role}, this token has {user.role}")
    request[USER] = user
    return user


def encode(reply: Reply, status: int = 200) -> web.StreamResponse:
    """Turn what a handler returned into a response."""
    match reply:
        case web.StreamResponse():
            return reply
        case None:
            return web.Response(status=204)
        case Json(data, headers):
            return web.Response(status=status, body=data, headers=headers, content_type="application/json")
        case BaseModel():
            body = reply.model_dump_json().encode()
        case _:
            body = orjson.dumps(reply)
    return web.Response(status=status, body=body, content_type="application/json")


def _checked(check: Callable[[str, str], object], text: str, name: str) -> None:
    try:
        check(text, name)
    except InvalidError as error:
        raise InvalidError(str(error), [Problem(name, str(error))]) from None
