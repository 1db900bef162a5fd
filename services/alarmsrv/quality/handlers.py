"""The routes of alarm quality."""

from __future__ import annotations

from typing import Any, Final, Self

from aiohttp import web
from pydantic import ConfigDict, Field, model_validator

from libs.http import USER, Comment, Reply, Role, Routes
from libs.http.pages import SpanQuery
from libs.validation import Model
from services.alarmsrv.quality.quality import Quality

QUALITY: Final = web.AppKey("quality", Quality)
ROUTES: Final = Routes()
MAX_SPAN_MS: Final = 400 * 86_400_000


class BoundedSpan(SpanQuery):
    """Of which time, 400 days at most."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.end - self.start > MAX_SPAN_MS:
            raise ValueError("start must be before end by 400 days at most")
        return self


class QualityQuery(BoundedSpan):
    """Of which time, for how many operators at once."""

    operators: int = Field(1, ge=1, le=100)


class QualityReport(Model):
    """The measures of ANSI/ISA-18.2 and IEC 62682."""

    model_config = ConfigDict(extra="allow")

    announced: int
    rate: dict[str, Any]
    floods: list[dict[str, Any]]
    chattering: list[dict[str, Any]]
    stale: list[dict[str, Any]]


@ROUTES.get("/api/alarms/quality", query=QualityQuery, reply=QualityReport)
async def quality_report(request: web.Request, query: QualityQuery) -> Reply:
    """Measure a span: rates, floods, chattering, stale alarms, top offenders, levels, time to acknowledge."""
    return await request.app[QUALITY].report(query.start, query.end, query.operators)


@ROUTES.get("/api/alarm-definitions/compare")
async def compare_definitions(request: web.Request) -> Reply:
    """Compare the running definitions with the approved ones."""
    return await request.app[QUALITY].compare()


@ROUTES.post("/api/alarm-definitions/approve", role=Role.ENGINEER, body=Comment)
async def approve_definitions(request: web.Request, body: Comment) -> Reply:
    """Approve the definitions as they are now."""
    return await request.app[QUALITY].approve(request[USER].name, body.comment or "")


@ROUTES.get("/api/alarm-definitions/{id}/recommend", query=BoundedSpan)
async def recommend_settings(request: web.Request, query: BoundedSpan) -> Reply:
    """Try other deadbands and delays on a definition's history, with the reduction each would have given."""
    return await request.app[QUALITY].recommend(request.match_info["id"], query.start, query.end)
