"""Two routes of every service that has files: what they would change, and changing it.

They stand outside of /api: the gateway puts the services' answers together.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from aiohttp import web
from pydantic import Field

from libs.http.routes import USER, Routes
from libs.http.tokens import Role
from libs.validation import Model

PLAN: Final = "/configuration/plan"
APPLY: Final = "/configuration/apply"


class Configuration(Protocol):
    """What a service's files say, beside what it runs with."""

    async def plan(self) -> list[dict[str, Any]]:
        """Return the changes: {kind, id, action, changes}. Raises ConfigurationError for files with problems."""
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
        """Show what the files would change."""
        return {"changes": await configuration.plan()}

    @routes.post(APPLY, role=Role.ENGINEER, body=ApplyBody)
    async def apply(request: web.Request, body: ApplyBody) -> dict[str, Any]:
        """Bring the running service in line with the files."""
        return {"changes": await configuration.apply(request[USER].name, body.reason)}

    return routes
