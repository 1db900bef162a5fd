"""The site's configuration files: what they would change, changing it, and going back.

Each service compares its own files with what it runs with; the gateway puts that together,
keeps versions of the files, and asks the services in the order in which they build on one
another. Applying is the same however often it is done, so what a crash interrupted is
finished by applying again, or by the next start.

What only the functions know of a definition is tried before the first change is made (libs/redis/trial.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp

from libs.definitions import Call, said_of
from libs.errors import InvalidError, NotFoundError, Problem, UnavailableError, VoltageError, error_of
from libs.http.configuration import APPLY, PLAN, Planned
from libs.redis.channels import documents as channel_documents
from libs.redis.channels import ids as channel_ids
from libs.redis.definitions import READ_A_CALL
from libs.redis.functions import Functions
from libs.redis.server import find_binary
from libs.redis.trial import tried
from libs.services import SERVICES
from services.gateway.settings import GatewaySettings

SERVICES_WITH_FILES: Final = tuple(service.name for service in SERVICES if service.name != "gateway")
# Points first, then what refers to them.
ORDER: Final = ("comsrv", "modsrv", "alarmsrv", "rulesrv", "hissrv", "netsrv")
TIMEOUT: Final = aiohttp.ClientTimeout(total=120)

Document = dict[str, Any]


class Plan(NamedTuple):
    """What the files would change, in order, and why that could not be tried, where it could not."""

    changes: list[Document]
    untried: str | None

    def document(self) -> Document:
        """Return it as JSON shows it."""
        return {"changes": self.changes} | ({"untried": self.untried} if self.untried else {})


class Configuration:
    """The services' files as one."""

    def __init__(self, session: aiohttp.ClientSession, settings: GatewaySettings, functions: Functions) -> None:
        """Keep how to reach the services, and Redis."""
        self._session = session
        self._settings = settings
        self._functions = functions

    async def plan(self, authorization: str) -> Plan:
        """Return what the files of all services would change, in order.

        The changes are tried in a Redis of their own, which holds the definitions that are stored now.

        Raises:
            InvalidError: every problem of every service's files, else every definition that would be refused.
            UnavailableError: a service is away.
        """
        planned = await self._planned(authorization)
        problems, untried = await self._tried(planned)
        _refuse(problems)
        return Plan(_changes(planned), untried)

    async def apply(self, authorization: str, plan: Plan, reason: str | None) -> Plan:
        """Carry out a plan: bring every service in line with its files; returns what that changed.

        Raises:
            InvalidError: a change was refused all the same, and the message says what was made.
            UnavailableError: a service is away.
        """
        made: list[Document] = []
        for name in _ordered():
            try:
                answer = await self._ask(name, "POST", APPLY, authorization, {"reason": reason})
            except VoltageError as error:
                raise await self._half_applied(authorization, plan.changes, error) from None
            made += [{"service": name, **change} for change in answer["changes"]]
        return Plan(made, plan.untried)

    async def _planned(self, authorization: str) -> dict[str, Planned]:
        names = _ordered()
        answers = await asyncio.gather(
            *(self._ask(name, "GET", PLAN, authorization) for name in names), return_exceptions=True
        )
        _refuse([problem for error in answers if isinstance(error, InvalidError) for problem in error.problems])
        found = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            found[name] = Planned.of(answer)
        return found

    async def _tried(self, planned: Mapping[str, Planned]) -> tuple[list[Problem], str | None]:
        """Try the calls of all services; return what is refused, and why nothing could be tried."""
        calls = {name: plan.calls for name, plan in planned.items()}
        if not any(calls.values()):
            return [], None
        try:
            binary = await asyncio.to_thread(find_binary, self._settings.redis.server)
        except UnavailableError as error:
            return [], str(error)
        stored = await self._stored([kind for plan in planned.values() for kind in plan.kinds])
        found = await asyncio.to_thread(tried, binary, stored, calls)
        return [problem for problems in found.values() for problem in problems], None

    async def _stored(self, kinds: Sequence[tuple[str, str]]) -> list[Call]:
        """Return the calls that store what is stored now; what requires approval is as what does not."""
        channels = channel_documents(self._functions, await channel_ids(self._functions))
        calls = [_call("channel_upsert", document) async for document in channels]
        for listing, upsert in kinds:
            found = await self._functions.read_all(listing, READ_A_CALL)
            calls += [_call(upsert, said_of(document)) for document in found]
        return calls

    async def _half_applied(self, authorization: str, planned: list[Document], error: VoltageError) -> VoltageError:
        """Return the error with what was applied and what was not: what is not planned any more was."""
        reason = "; ".join(map(str, error.problems)) if isinstance(error, InvalidError) else error
        try:
            left = {_name(change) for change in _changes(await self._planned(authorization))}
        except VoltageError as away:
            said = f"what was applied is not known ({away}); voltage config plan says what was not"
        else:
            named = {True: list[str](), False: list[str]()}
            for change in planned:
                named[_name(change) not in left].append(_name(change))
            made, rest = (", ".join(named[done]) or "nothing" for done in (True, False))
            said = f"applied: {made}; not applied: {rest}"
        message = f"the files could not be applied as a whole: {reason}; {said}"
        return InvalidError(message) if isinstance(error, InvalidError) else type(error)(message)

    async def _ask(
        self, service: str, method: str, path: str, authorization: str, body: Document | None = None
    ) -> Document:
        url = self._settings.service_url(service) + path
        headers = {"Authorization": authorization}
        try:
            async with self._session.request(method, url, headers=headers, json=body, timeout=TIMEOUT) as reply:
                document: Document = await reply.json(content_type=None)
                if reply.status == 200:
                    return document
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnavailableError(f"{service} is away ({type(error).__name__})") from None
        detail = str(document.get("detail") or document.get("title"))
        listed = [Problem(one["field"], one["message"]) for one in document.get("errors") or ()]
        if document.get("code") == "INVALID":
            raise InvalidError(f"{service}: {detail}", listed or [Problem(service, detail)])
        raise error_of(document.get("code"), f"{service}: {detail}")


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        unique = list(dict.fromkeys(problems))
        raise InvalidError(f"the files have {len(unique)} problem{'s' * (len(unique) > 1)}; nothing is applied", unique)


def _changes(planned: Mapping[str, Planned]) -> list[Document]:
    return [{"service": name, **change} for name, plan in planned.items() for change in plan.changes]


def _name(change: Document) -> str:
    return f"{change['kind']} {change['id']}"


def _call(function: str, document: Document) -> Call:
    said = {name: value for name, value in document.items() if name != "requires_approval"}
    return Call("", "", function, str(document["id"]), (said,))


def _ordered() -> list[str]:
    """Return the services with files: those of ORDER first, any later one after them."""
    return sorted(SERVICES_WITH_FILES, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def chosen(versions: list[Any], number: int | None) -> int:
    """Return the version to go back to: the one named, or the one before the last."""
    if number is not None:
        return number
    if len(versions) < 2:
        raise NotFoundError("there is no version before this one")
    return int(versions[-2].number)
