"""The routes of modsrv: parse, one call, respond."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes
from services.modsrv.functions import ModelFunctions
from services.modsrv.schemas import ActionBody, DeviceModel, ModelQuery, Template

MODELS: Final = web.AppKey("models", ModelFunctions)
ROUTES: Final = Routes()


@ROUTES.get("/api/templates", query=PageQuery, reply=Page)
async def list_templates(request: web.Request, query: PageQuery) -> Reply:
    """List the templates by id."""
    return Json(await request.app[MODELS].templates.page(query.arguments()))


@ROUTES.post("/api/templates", role=Role.ENGINEER, body=Template, reply=Template, status=201)
async def create_template(request: web.Request, body: Template) -> Reply:
    """Create a template."""
    return Json(await request.app[MODELS].templates.create(body, request[USER].name))


@ROUTES.get("/api/templates/{id}", reply=Template)
async def get_template(request: web.Request) -> Reply:
    """Read a template."""
    return Json(await request.app[MODELS].templates.get(request.match_info["id"]))


@ROUTES.put("/api/templates/{id}", role=Role.ENGINEER, body=Template, reply=Template)
async def change_template(request: web.Request, body: Template) -> Reply:
    """Change a template; its models follow in the same call."""
    return Json(await request.app[MODELS].templates.change(request.match_info["id"], body, request[USER].name))


@ROUTES.delete("/api/templates/{id}", role=Role.ENGINEER)
async def delete_template(request: web.Request) -> Reply:
    """Delete a template that no model uses."""
    return Json(await request.app[MODELS].templates.delete(request.match_info["id"]))


@ROUTES.get("/api/models", query=ModelQuery, reply=Page)
async def list_models(request: web.Request, query: ModelQuery) -> Reply:
    """List the models by id."""
    return Json(await request.app[MODELS].models.page(query.arguments()))


@ROUTES.post("/api/models", role=Role.ENGINEER, body=DeviceModel, reply=DeviceModel, status=201)
async def create_model(request: web.Request, body: DeviceModel) -> Reply:
    """Create a model; it has the present values at once."""
    return Json(await request.app[MODELS].models.create(body, request[USER].name))


@ROUTES.get("/api/models/{id}", reply=DeviceModel)
async def get_model(request: web.Request) -> Reply:
    """Read a model."""
    return Json(await request.app[MODELS].models.get(request.match_info["id"]))


@ROUTES.put("/api/models/{id}", role=Role.ENGINEER, body=DeviceModel, reply=DeviceModel)
async def change_model(request: web.Request, body: DeviceModel) -> Reply:
    """Change a model."""
    return Json(await request.app[MODELS].models.change(request.match_info["id"], body, request[USER].name))


@ROUTES.delete("/api/models/{id}", role=Role.ENGINEER)
async def delete_model(request: web.Request) -> Reply:
    """Delete a model; conditions on its points become unknown."""
    return Json(await request.app[MODELS].models.delete(request.match_info["id"]))


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
