"""Log-in by link and by password, sessions, users, and the trail they leave."""

from __future__ import annotations

from typing import Any

import pytest

from libs.http import Role
from services.gateway import links
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.support import Gateway

PASSWORD = "correct horse battery"  # noqa: S105 - of a test


async def link_in(gateway: Gateway, settings: GatewaySettings) -> dict[str, Any]:
    """Log the first administrator in."""
    status, session = await gateway.call(
        "POST", "/api/auth/login", {"link": links.create(settings.data_dir)}, role=None
    )
    assert status == 200, session
    found: dict[str, Any] = session
    return found


async def test_a_link_logs_in_once(gateway: Gateway, settings: GatewaySettings) -> None:
    link = {"link": links.create(settings.data_dir)}
    status, session = await gateway.call("POST", "/api/auth/login", link, role=None)
    assert (status, session["user"]) == (200, {"name": "admin", "role": "admin", "has_password": False})
    assert await gateway.call("GET", "/api/auth/me", token=session["access_token"]) == (200, session["user"])
    status, problem = await gateway.call("POST", "/api/auth/login", link, role=None)
    assert (status, problem["code"]) == (401, "UNAUTHORIZED")


async def test_the_pages_refresh_token_is_in_a_cookie_scripts_cannot_read(
    gateway: Gateway, settings: GatewaySettings
) -> None:
    body = {"link": links.create(settings.data_dir), "cookie": True}
    async with gateway.http.post("/api/auth/login", json=body) as answer:
        assert (await answer.json())["refresh_token"] is None
        cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/api/auth"))
    assert (await gateway.call("POST", "/api/auth/refresh", {}, role=None))[0] == 200


async def test_log_out_ends_the_session(gateway: Gateway, settings: GatewaySettings) -> None:
    session = await link_in(gateway, settings)
    token = {"refresh_token": session["refresh_token"]}
    status, renewed = await gateway.call("POST", "/api/auth/refresh", token, role=None)
    assert status == 200
    assert (await gateway.call("POST", "/api/auth/logout", token, token=renewed["access_token"]))[0] == 204
    assert (await gateway.call("POST", "/api/auth/refresh", token, role=None))[0] == 401


async def test_password_log_in_and_its_limit(gateway: Gateway, settings: GatewaySettings) -> None:
    admin = (await link_in(gateway, settings))["access_token"]
    user = {"name": "anna", "role": "operator", "password": PASSWORD}
    assert (await gateway.call("POST", "/api/users", user, token=admin))[0] == 201
    assert (await gateway.call("POST", "/api/users", user, token=admin))[0] == 409
    login = {"name": "anna", "password": PASSWORD}
    status, session = await gateway.call("POST", "/api/auth/login", login, role=None)
    assert (status, session["user"]["role"]) == (200, "operator")
    wrong = [{"name": name, "password": "wrong"} for name in ("anna", "nobody")]
    answers = [await gateway.call("POST", "/api/auth/login", body, role=None) for body in wrong]
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    for _ in range(6):
        status, problem = await gateway.call("POST", "/api/auth/login", wrong[0], role=None)
    assert (status, problem["code"]) == (429, "LIMIT")
    assert (await gateway.call("POST", "/api/auth/login", login, role=None))[0] == 429


async def test_a_user_sets_a_password_and_must_know_the_present_one(
    gateway: Gateway, settings: GatewaySettings
) -> None:
    admin = (await link_in(gateway, settings))["access_token"]
    path = "/api/auth/me/password"
    assert (await gateway.call("PUT", path, {"password": "short"}, token=admin))[0] == 422
    assert (await gateway.call("PUT", path, {"password": PASSWORD}, token=admin))[0] == 204
    assert (await gateway.call("PUT", path, {"password": PASSWORD + "2"}, token=admin))[0] == 403
    change = {"password": PASSWORD + "2", "current": PASSWORD}
    assert (await gateway.call("PUT", path, change, token=admin))[0] == 204


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ENGINEER])
async def test_users_and_audit_are_the_administrators(gateway: Gateway, role: Role) -> None:
    for method, path in (
        ("GET", "/api/users"),
        ("POST", "/api/users"),
        ("DELETE", "/api/users/x"),
        ("GET", "/api/audit"),
    ):
        assert (await gateway.call(method, path, role=role))[0] == 403


async def test_who_logged_in_and_what_changed_is_kept(gateway: Gateway, settings: GatewaySettings) -> None:
    admin = (await link_in(gateway, settings))["access_token"]
    await gateway.call("POST", "/api/users", {"name": "anna", "role": "viewer"}, token=admin)
    await gateway.call("PATCH", "/api/users/anna", {"role": "operator"}, token=admin)
    await gateway.call("DELETE", "/api/users/anna", token=admin)
    status, page = await gateway.call("GET", "/api/audit?limit=3", token=admin)
    assert status == 200
    assert [item["action"] for item in page["items"]] == ["user_deleted", "user_changed", "user_created"]
    assert page["items"][1]["target"] == "anna"
    _, rest = await gateway.call("GET", f"/api/audit?cursor={page['cursor']}", token=admin)
    assert [(item["action"], item["user"], item["how"]) for item in rest["items"]] == [("login", "admin", "link")]


async def test_a_link_made_for_a_user_logs_that_user_in(gateway: Gateway, settings: GatewaySettings) -> None:
    admin = (await link_in(gateway, settings))["access_token"]
    await gateway.call("POST", "/api/users", {"name": "anna", "role": "viewer"}, token=admin)
    status, made = await gateway.call("POST", "/api/users/anna/link", token=admin)
    assert status == 201
    _, session = await gateway.call("POST", "/api/auth/login", {"link": made["link"]}, role=None)
    assert session["user"]["name"] == "anna"


async def test_a_disabled_users_stream_ends_at_once(gateway: Gateway, settings: GatewaySettings) -> None:
    admin = (await link_in(gateway, settings))["access_token"]
    await gateway.call("POST", "/api/users", {"name": "anna", "role": "viewer"}, token=admin)
    watcher = await gateway.stream(token=gateway.token(Role.VIEWER, name="anna"))
    await gateway.call("PATCH", "/api/users/anna", {"disabled": True}, token=admin)
    async for _ in watcher.socket:
        pass
    assert watcher.socket.close_code == 4401
