"""No route of any service answers without a token, but the open ones."""

from __future__ import annotations

import pytest

from tests.support.processes import NAMES, Api, Site

OPEN = {"/health", "/health/detailed", "/metrics", "/openapi.json", "/docs", "/", "/api/auth/login"}
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.mark.parametrize("service", NAMES)
async def test_every_route_wants_a_token(site: Site, api: Api, service: str):
    described = await api("GET", "/openapi.json", service=service)
    assert described.status == 200
    checked = 0
    for path, methods in described.body["paths"].items():
        for method in METHODS & set(methods):
            concrete = path.replace("{ch}", "1001").replace("{type}", "T").replace("{point}", "1")
            concrete = concrete.replace("{id}", "x").replace("{name}", "x")
            anonymous = Api(site, api._session, None)
            reply = await anonymous(method.upper(), concrete, service=service)
            if path in OPEN or path.startswith(("/assets", "/login", "/static")):
                continue
            assert reply.status == 401, f"{service}: {method} {path} answered {reply.status} without a token"
            forged = await anonymous(method.upper(), concrete, service=service, token="e30.e30.e30")  # noqa: S106 - forged
            assert forged.status == 401
            checked += 1
    assert checked > 0


async def test_a_viewer_may_read_and_not_change(site: Site, api: Api):
    viewer = site.token("viewer")
    assert (await api("GET", "/api/rules", token=viewer)).status == 200
    assert (await api("DELETE", "/api/rules/none", token=viewer)).status == 403
    assert (await api("POST", "/api/channels/1003/commands", {}, token=viewer)).status == 403
