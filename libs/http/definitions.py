"""The routes of a kind of definition, the same for each: create, read, change, delete, versions, proposals.

A service says where they stand and what is special about its kind; `DefinitionRoutes` declares the rest.
"""

# ruff: noqa: D102 - what the methods of Store do is said in libs/redis/definitions.py

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, create_model

from libs.definitions import Change, Definition, Proposal
from libs.errors import InvalidError, Problem
from libs.http.pages import Comment, Page, PageQuery
from libs.http.routes import USER, Handler, Json, Reply, Routes
from libs.http.tokens import Role
from libs.validation import Id, Model


class Store(Protocol):
    """One kind of definition; documents are passed on as they are stored."""

    async def page(self, filters: Mapping[str, Any]) -> bytes: ...
    async def get(self, definition_id: str) -> bytes: ...
    async def create(self, definition: Definition, change: Change) -> bytes: ...
    async def change(self, definition_id: str, definition: Definition, change: Change) -> bytes: ...
    async def delete(self, definition_id: str, change: Change) -> bytes: ...
    async def versions(self, definition_id: str) -> bytes: ...
    async def version(self, definition_id: str, version: int) -> bytes: ...
    async def diff(self, definition_id: str, old: int | None, new: int | None) -> dict[str, Any]: ...
    async def rollback(self, definition_id: str, version: int, change: Change) -> bytes: ...
    async def propose(self, definition_id: str, proposal: Proposal, by: str) -> bytes: ...
    async def proposals(self, filters: Mapping[str, Any]) -> bytes: ...
    async def decide(self, proposal: str, by: str, comment: str | None, *, approve: bool) -> bytes: ...


class Rollback(Model):
    """Which version to bring back, and why."""

    version: int = Field(ge=0)
    reason: str | None = Field(None, max_length=500)


class Version(Model):
    """What is known of a version; `definition` is what it said, null of a deletion."""

    model_config = ConfigDict(extra="allow")

    version: int
    action: str = Field(description="created, changed, deleted, rolled_back, enabled or disabled")
    author: str
    at_ms: int
    reason: str | None = None
    approved_by: str | None = None
    of_version: int | None = Field(None, description="the version that was brought back")
    hash: str | None = None
    definition: dict[str, Any] | None = None


class Reason(Model):
    """Why it is done."""

    reason: str | None = Field(None, max_length=500)


class DiffQuery(Model):
    """Between which versions, 0 for nothing at all; without them the last change."""

    from_: int | None = Field(None, alias="from", ge=0)
    to: int | None = Field(None, ge=0)


class Differences(Model):
    """What differs, each with its path: null where nothing stood or stands."""

    from_: int = Field(alias="from")
    to: int
    changes: list[dict[str, Any]]


class ProposalQuery(PageQuery):
    """Which proposals."""

    of: Id | None = Field(None, description="of this definition")
    status: Literal["pending", "approved", "rejected", "expired"] | None = None


class Proposed(Model):
    """A proposal and what became of it."""

    model_config = ConfigDict(extra="allow")

    id: Id
    kind: str
    of: Id
    action: str = Field(description="change, rollback or delete")
    by: str
    status: str
    base: int = Field(description="the version it was made of; approved it must still be the present one")
    changes: list[dict[str, Any]] | None = Field(None, description="in a list, of what waits: what it would change now")
    created_at_ms: int
    expires_at_ms: int


# A path, the parts of which mean what libs/http/routes.py says.
ONE: Final = "/{id}"
DECIDED: Final = "/{id}/proposals/{proposal}"
DECISION: Final[dict[str, Any]] = {"body": Comment, "reply": Proposed}


class DefinitionRoutes:
    """The routes of one kind. A subclass overrides what is special about it."""

    query: type[PageQuery] = PageQuery

    def __init__(
        self, path: str, noun: str, model: type[Definition], store: Callable[[web.Application], Store], **says: str
    ) -> None:
        """Keep where the routes stand and what they are about.

        Args:
            path: as in /api/rules.
            noun: as in "rule".
            model: a definition's body.
            store: where the definitions are.
            says: a sentence more in the description of `create`, `change` or `delete`.
        """
        self.path, self.noun, self.model, self.store, self.says = path, noun, model, store, says

    async def check(self, request: web.Request, definition: Definition) -> None:
        """Refuse a definition for what only this service knows."""

    async def page(self, request: web.Request, filters: Mapping[str, Any]) -> bytes:
        """Return a page of definitions."""
        return await self.store(request.app).page(filters)

    async def shown(self, request: web.Request, document: bytes) -> Json:  # noqa: ARG002 - for those who override it
        """Return the answer with a stored definition."""
        return Json(document)

    async def changed(self, request: web.Request) -> None:
        """Take notice that a definition was made, changed or deleted."""

    def routes(self) -> Routes:
        """Return the routes, those with fixed names before those with an id."""
        routes, one, model = Routes(), self.noun, self.model
        definition: Any = (model | None, None)
        proposal = create_model(f"{model.__name__}Proposal", __base__=Proposal, definition=definition)
        proposed: dict[str, Any] = {"body": proposal, "reply": Proposed, "status": 201}
        for method, path, name, handler, text, options in (
            ("GET", "", "list_{}s", self._list, f"List the {one}s by id.", {"query": self.query, "reply": Page}),
            ("POST", "", "create_{}", self._create, f"Create a {one}.",
             {"body": model, "reply": model, "status": 201}),
            ("GET", "/proposals", "list_{}_proposals", self._proposals,
             f"List proposed changes of {one}s, newest first.", {"query": ProposalQuery, "reply": Page}),
            ("GET", ONE, "get_{}", self._get, f"Read a {one}; the header ETag is its version.", {"reply": model}),
            ("PUT", ONE, "change_{}", self._change,
             f"Change a {one}; with If-Match only the version that was seen.", {"body": model, "reply": model}),
            ("DELETE", ONE, "delete_{}", self._delete, f"Delete a {one}.", {"query": Reason}),
            ("GET", f"{ONE}/versions", "list_{}_versions", self._versions,
             f"List the versions of a {one}, newest first, also of one that is deleted.", {"reply": Page}),
            ("GET", f"{ONE}/versions/{{number}}", "get_{}_version", self._version,
             f"Read a version of a {one}.", {"reply": Version}),
            ("GET", f"{ONE}/diff", "diff_{}", self._diff,
             f"Show what differs between two versions of a {one}.", {"query": DiffQuery, "reply": Differences}),
            ("POST", f"{ONE}/rollback", "rollback_{}", self._rollback,
             f"Bring a version of a {one} back as the newest one.", {"body": Rollback, "reply": model}),
            ("POST", f"{ONE}/proposals", "propose_{}", self._propose,
             f"Propose a change of a {one} that requires approval.", proposed),
            ("POST", f"{DECIDED}/approve", "approve_{}_proposal", self._approve,
             "Approve a proposal as another person than who made it: it is carried out.", DECISION),
            ("POST", f"{DECIDED}/reject", "reject_{}_proposal", self._reject,
             "Reject a proposal, or take back one's own.", DECISION),
        ):  # fmt: skip
            said = self.says.get(name.partition("_")[0], "")
            role = Role.VIEWER if method == "GET" else Role.ENGINEER
            handle = named(handler, name.format(one.replace(" ", "_")), f"{text} {said}".strip())
            routes.add(method, self.path + path, role=role, **options)(handle)
        return routes

    async def _list(self, request: web.Request, query: PageQuery) -> Reply:
        return Json(await self.page(request, query.arguments()))

    async def _create(self, request: web.Request, body: Definition) -> Reply:
        await self.check(request, body)
        change = Change(user(request), body.reason, read=body.hash)
        return await self._made(request, await self.store(request.app).create(body, change))

    async def _get(self, request: web.Request) -> Reply:
        return await self._tagged(request, await self.store(request.app).get(request.match_info["id"]))

    async def _change(self, request: web.Request, body: Definition) -> Reply:
        await self.check(request, body)
        seen = if_match(request)
        change = Change(user(request), body.reason, body.version if seen is None else seen, body.hash)
        return await self._made(request, await self.store(request.app).change(request.match_info["id"], body, change))

    async def _delete(self, request: web.Request, query: Reason) -> Reply:
        change = Change(user(request), query.reason, if_match(request))
        done = await self.store(request.app).delete(request.match_info["id"], change)
        await self.changed(request)
        return Json(done)

    async def _versions(self, request: web.Request) -> Reply:
        return Json(await self.store(request.app).versions(request.match_info["id"]))

    async def _version(self, request: web.Request) -> Reply:
        path = request.match_info
        return Json(await self.store(request.app).version(path["id"], int(path["number"])))

    async def _diff(self, request: web.Request, query: DiffQuery) -> Reply:
        return await self.store(request.app).diff(request.match_info["id"], query.from_, query.to)

    async def _rollback(self, request: web.Request, body: Rollback) -> Reply:
        change = Change(user(request), body.reason, if_match(request))
        return await self._made(
            request, await self.store(request.app).rollback(request.match_info["id"], body.version, change)
        )

    async def _made(self, request: web.Request, document: bytes) -> Reply:
        await self.changed(request)
        return await self._tagged(request, document)

    async def _tagged(self, request: web.Request, document: bytes) -> Reply:
        return tagged(await self.shown(request, document), document)

    async def _proposals(self, request: web.Request, query: ProposalQuery) -> Reply:
        return Json(await self.store(request.app).proposals(query.arguments()))

    async def _propose(self, request: web.Request, body: Proposal) -> Reply:
        if isinstance(body.definition, Definition):
            await self.check(request, body.definition)
        return Json(await self.store(request.app).propose(request.match_info["id"], body, user(request)))

    async def _approve(self, request: web.Request, body: Comment) -> Reply:
        done = await self._decide(request, body, approve=True)
        await self.changed(request)
        return done

    async def _reject(self, request: web.Request, body: Comment) -> Reply:
        return await self._decide(request, body, approve=False)

    async def _decide(self, request: web.Request, body: Comment, *, approve: bool) -> Json:
        proposal = request.match_info["proposal"]
        return Json(await self.store(request.app).decide(proposal, user(request), body.comment, approve=approve))


def named(handler: Handler, name: str, text: str) -> Handler:
    """Return a handler under the name and with the text that the description of the API shows."""

    async def handle(request: web.Request, **given: BaseModel) -> Reply:
        return await handler(request, **given)

    handle.__name__, handle.__doc__ = name, text
    return handle


def tagged(answer: Json, document: bytes) -> Json:
    """Return an answer with the version of the definition that it is about as ETag."""
    version = orjson.loads(document).get("version")
    return Json(answer.data, {**answer.headers, "ETag": f'"{version}"'}) if version else answer


def user(request: web.Request) -> str:
    """Return the name of who asks."""
    return request[USER].name


def if_match(request: web.Request) -> int | None:
    """Return the version that the header If-Match names, which is what ETag was."""
    text = request.headers.get(hdrs.IF_MATCH)
    if text is None or text.strip() == "*":
        return None
    number = text.strip().removeprefix("W/").strip('"')
    if not number.isdecimal():
        message = f"If-Match {text[:40]!r} must be a version, as in ETag"
        raise InvalidError(message, [Problem("If-Match", message)])
    return int(number)


class WarnedStore(Store, Protocol):
    """One kind of definition that may name what does not exist yet."""

    async def warned(self, definition: bytes) -> bytes: ...
    async def warned_page(self, filters: Mapping[str, Any]) -> bytes: ...


class WarnedRoutes(DefinitionRoutes):
    """Definitions are answered with what is remarkable about them."""

    store: Callable[[web.Application], WarnedStore]

    async def page(self, request: web.Request, filters: Mapping[str, Any]) -> bytes:
        """Return a page of definitions with their warnings."""
        return await self.store(request.app).warned_page(filters)

    async def shown(self, request: web.Request, document: bytes) -> Json:
        """Return a definition with its warnings."""
        return Json(await self.store(request.app).warned(document))
