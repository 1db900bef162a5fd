"""The routes of shadows, the same for rules and alarm definitions."""

# ruff: noqa: D102 - what the methods of Shadows do is said in libs/redis/shadows.py

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web
from pydantic import ConfigDict, Field, create_model, model_validator

from libs.definitions import Change, Definition
from libs.http.definitions import Reason, if_match, named, tagged, user
from libs.http.pages import Page, PageQuery, SpanQuery
from libs.http.routes import Json, Reply, Routes
from libs.http.tokens import Role
from libs.shadows import Comparison
from libs.validation import Model


class Shadows(Protocol):
    """The shadows of one kind of definition; documents are passed on as they are stored."""

    async def page(self, filters: Mapping[str, Any]) -> bytes: ...
    async def get(self, of: str) -> bytes: ...
    async def start(self, of: str, wanted: Mapping[str, Any], change: Change) -> bytes: ...
    async def stop(self, of: str) -> bytes: ...
    async def promote(self, of: str, change: Change) -> bytes: ...
    async def comparison(self, of: str, start_ms: int, end_ms: int) -> Comparison: ...


class ShadowBody(Model):
    """What shall run beside the active one: a definition, or a version that is kept."""

    definition: Any = None
    version: int | None = Field(None, ge=0)
    reason: str | None = Field(None, max_length=500)

    @model_validator(mode="after")
    def _one_of_two(self) -> ShadowBody:
        if (self.definition is None) == (self.version is None):
            raise ValueError("give definition or version, one of them")
        return self


class Shadow(Model):
    """A shadow and how it stands."""

    model_config = ConfigDict(extra="allow")

    kind: str
    of: str
    by: str
    reason: str | None = None
    started_at_ms: int
    of_version: int | None = None
    definition: dict[str, Any]
    active: bool = Field(description="whether it is on")
    result: bool | None = Field(description="what its conditions say; null is unknown")


class ShadowRoutes:
    """The routes of the shadows of one kind of definition."""

    def __init__(
        self, path: str, noun: str, model: type[Definition], shadows: Callable[[web.Application], Shadows]
    ) -> None:
        """Keep where the routes stand, what they are about, and where the shadows are."""
        self.path, self.noun, self.model, self.shadows = path, noun, model, shadows

    def routes(self) -> Routes:
        """Return the routes; they belong before those of the definitions themselves."""
        routes, one = Routes(), self.noun
        definition: Any = (self.model | None, None)
        body = create_model(f"{self.model.__name__}Shadow", __base__=ShadowBody, definition=definition)
        shadow = "/{id}/shadow"
        listed: dict[str, Any] = {"query": PageQuery, "reply": Page}
        for method, path, name, handler, text, options in (
            ("GET", "/shadows", "list_{}_shadows", self._list, f"List the {one}s that run as shadows.",
             listed),
            ("GET", shadow, "get_{}_shadow", self._get, f"Read what runs beside a {one}.", {"reply": Shadow}),
            ("PUT", shadow, "start_{}_shadow", self._start,
             f"Let a {one} run beside the active one: it acts on nothing, and both are noted.",
             {"body": body, "reply": Shadow}),
            ("DELETE", shadow, "stop_{}_shadow", self._stop, "End a shadow; what was noted goes with it.", {}),
            ("GET", f"{shadow}/comparison", "compare_{}_shadow", self._compare,
             f"Compare a shadow with the active {one} over a time.", {"query": SpanQuery, "reply": Comparison}),
            ("POST", f"{shadow}/promote", "promote_{}_shadow", self._promote,
             f"Put a shadow in the place of the active {one}, as a new version.",
             {"body": Reason, "reply": self.model}),
        ):  # fmt: skip
            role = Role.VIEWER if method == "GET" else Role.ENGINEER
            handle = named(handler, name.format(one.replace(" ", "_")), text)
            routes.add(method, self.path + path, role=role, **options)(handle)
        return routes

    def _of(self, request: web.Request) -> tuple[Shadows, str]:
        return self.shadows(request.app), request.match_info["id"]

    async def _list(self, request: web.Request, query: PageQuery) -> Reply:
        return Json(await self.shadows(request.app).page(query.arguments()))

    async def _get(self, request: web.Request) -> Reply:
        shadows, of = self._of(request)
        return Json(await shadows.get(of))

    async def _start(self, request: web.Request, body: ShadowBody) -> Reply:
        shadows, of = self._of(request)
        wanted: dict[str, Any] = {"version": body.version}
        if isinstance(body.definition, Definition):
            wanted = {"definition": orjson.dumps({"id": of, **body.definition.said()}).decode()}
        return Json(await shadows.start(of, wanted, Change(user(request), body.reason)))

    async def _stop(self, request: web.Request) -> Reply:
        shadows, of = self._of(request)
        return Json(await shadows.stop(of))

    async def _compare(self, request: web.Request, query: SpanQuery) -> Reply:
        shadows, of = self._of(request)
        return await shadows.comparison(of, query.start, query.end)

    async def _promote(self, request: web.Request, body: Reason) -> Reply:
        shadows, of = self._of(request)
        document = await shadows.promote(of, Change(user(request), body.reason, if_match(request)))
        return tagged(Json(document), document)
