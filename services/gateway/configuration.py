"""The site's configuration files: what they would change, changing it, and going back.

Each service compares its own files with what it runs with; the gateway puts that together,
keeps versions of the files, and asks the services in the order in which they build on one
another. Applying is the same however often it is done, so what a crash interrupted is
finished by applying again, or by the next start.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp

from libs.errors import InvalidError, NotFoundError, Problem, UnavailableError, error_of
from libs.http.configuration import APPLY, PLAN
from libs.services import SERVICES
from services.gateway.settings import GatewaySettings

SERVICES_WITH_FILES: Final = tuple(service.name for service in SERVICES if service.name != "gateway")
# Points first, then what refers to them.
ORDER: Final = ("comsrv", "modsrv", "alarmsrv", "rulesrv", "hissrv", "netsrv")
TIMEOUT: Final = aiohttp.ClientTimeout(total=120)


class Configuration:
    """The services' files as one."""

    def __init__(self, session: aiohttp.ClientSession, settings: GatewaySettings) -> None:
        """Keep how to reach the services."""
        self._session = session
        self._settings = settings

    async def plan(self, authorization: str) -> list[dict[str, Any]]:
        """Return what the files of all services would change, in order.

        Raises:
            InvalidError: every problem of every service's files.
            UnavailableError: a service is away.
        """
        answers = await asyncio.gather(
            *(self._ask(name, "GET", PLAN, authorization) for name in _ordered()), return_exceptions=True
        )
        problems = [problem for error in answers if isinstance(error, InvalidError) for problem in error.problems]
        if problems:
            unique = list(dict.fromkeys(problems))
            raise InvalidError(f"the files have {len(unique)} problems", unique)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [change for answer in answers if isinstance(answer, list) for change in answer]

    async def apply(self, authorization: str, reason: str | None) -> list[dict[str, Any]]:
        """Bring every service in line with its files; nothing is touched while any file has a problem."""
        await self.plan(authorization)
        made: list[dict[str, Any]] = []
        for name in _ordered():
            made += await self._ask(name, "POST", APPLY, authorization, {"reason": reason})
        return made

    async def _ask(
        self, service: str, method: str, path: str, authorization: str, body: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        url = self._settings.service_url(service) + path
        headers = {"Authorization": authorization}
        try:
            async with self._session.request(method, url, headers=headers, json=body, timeout=TIMEOUT) as reply:
                document = await reply.json(content_type=None)
                if reply.status == 200:
                    return [{"service": service, **change} for change in document["changes"]]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnavailableError(f"{service} is away ({type(error).__name__})") from None
        detail = str(document.get("detail") or document.get("title"))
        listed = [Problem(one["field"], one["message"]) for one in document.get("errors") or ()]
        if document.get("code") == "INVALID":
            raise InvalidError(f"{service}: {detail}", listed or [Problem(service, detail)])
        raise error_of(document.get("code"), f"{service}: {detail}")


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
