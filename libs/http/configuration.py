"""Two routes of every service that has files: what they would change, and changing it.

They stand outside of /api: the gateway puts the services' answers together.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol, Self

from aiohttp import web
from pydantic import Field

from libs.definitions import Call
from libs.http.routes import USER, Routes
from libs.http.tokens import Role
from libs.validation import Model

PLAN: Final = "/configuration/plan"
APPLY: Final = "/configuration/apply"


class Planned(NamedTuple):
    """What a service's files would change.

    Attributes:
        changes: {kind, id, action, changes}, for people.
        calls: those of functions that would be made, to be tried elsewhere.
        kinds: of each kind of definition the functions that list and that store it.
    """

    changes: list[dict[str, Any]]
    calls: list[Call]
    kinds: list[tuple[str, str]]

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return self._asdict() | {"calls": [call._asdict() for call in self.calls]}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return what another process planned."""
        calls = [Call(**{**call, "arguments": tuple(call["arguments"])}) for call in document["calls"]]
        return cls(document["changes"], calls, [(one[0], one[1]) for one in document["kinds"]])


class Configuration(Protocol):
    """What a service's files say, beside what it runs with."""

    async def plan(self) -> Planned:
        """Return the changes. Raises ConfigurationError for files with problems."""
        ...

    async def apply(self, author: str, reason: str | None) -> list[dict[str, Any]]:
        """Make them, and return what was made."""
        ...


class ApplyBody(Model):
    """Why the files are applied."""

    reason: str | None = Field(None, max_length=500)


def configuration_routes(configuration: Configuration) -> Routes:
    """Return the routes of one service."""
    routes = Routes()

    @routes.get(PLAN, role=Role.ENGINEER)
    async def plan(_: web.Request) -> dict[str, Any]:
        """Show what the files would change, and the calls of functions that would do it."""
        return (await configuration.plan()).document()

    @routes.post(APPLY, role=Role.ENGINEER, body=ApplyBody)
    async def apply(request: web.Request, body: ApplyBody) -> dict[str, Any]:
        """Bring the running service in line with the files."""
        return {"changes": await configuration.apply(request[USER].name, body.reason)}

    return routes
