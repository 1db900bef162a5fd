"""The routes of modsrv: parse, one call, respond."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.http import USER, Json, Reply, Role, Routes
from libs.http.definitions import DefinitionRoutes
from services.modsrv.functions import ModelFunctions
from services.modsrv.schemas import ActionBody, DeviceModel, ModelQuery, Template

MODELS: Final = web.AppKey("models", ModelFunctions)
ROUTES: Final = Routes()


class ModelRoutes(DefinitionRoutes):
    """Models are listed by their template, too."""

    query = ModelQuery


ROUTES.include(
    DefinitionRoutes(
        "/api/templates",
        "template",
        Template,
        lambda app: app[MODELS].templates,
        change="Its models follow in the same call.",
        delete="No model may use it.",
    ).routes()
)
ROUTES.include(
    ModelRoutes(
        "/api/models",
        "model",
        DeviceModel,
        lambda app: app[MODELS].models,
        create="It has the present values at once.",
        delete="Conditions on its points become unknown.",
    ).routes()
)


@ROUTES.get("/api/models/{id}/values")
async def model_values(request: web.Request) -> Reply:
    """Read a model's present values with quality and instant."""
    return Json(await request.app[MODELS].values(request.match_info["id"]))


@ROUTES.get("/api/models/{id}/expanded")
async def expanded_model(request: web.Request) -> Reply:
    """Read what a model's names mean: name to reference."""
    return Json(await request.app[MODELS].expanded(request.match_info["id"]))


@ROUTES.post("/api/models/{id}/actions/{name}", role=Role.OPERATOR, body=ActionBody, status=202)
async def act(request: web.Request, body: ActionBody) -> Reply:
    """Command the device; /api/commands/{id} tells what becomes of it."""
    command = {
        **body.model_dump(exclude_none=True),
        "name": request.match_info["name"],
        "source": {"kind": "user", "name": request[USER].name},
    }
    return Json(await request.app[MODELS].act(request.match_info["id"], command))


@ROUTES.get("/api/reverse/{ch}/{type}/{point}")
async def reverse(request: web.Request) -> Reply:
    """Find the models a point belongs to."""
    path = request.match_info
    return Json(await request.app[MODELS].reverse(path["ch"], path["type"], path["point"]))
