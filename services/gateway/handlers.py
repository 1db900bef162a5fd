"""The gateway's routes: its own, and everything it passes on."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Final

import aiohttp
from aiohttp import hdrs, web

from libs.clock import now_ms
from libs.config.versions import Versions
from libs.errors import ForbiddenError, UnauthorizedError, VoltageError
from libs.http import USER, Page, PageQuery, Reply, Role, Routes, tokens
from libs.http.health import CHECKS, run_checks
from libs.http.openapi import openapi
from libs.http.routes import TOKEN_KEY, authorize
from libs.services import BY_NAME
from services.gateway import page
from services.gateway.configuration import Configuration, Plan, chosen
from services.gateway.functions import GatewayFunctions
from services.gateway.hub import Hub
from services.gateway.links import TTL_S
from services.gateway.live import Live
from services.gateway.merged import Document, fetch_all, merge_openapi
from services.gateway.proxy import Proxy
from services.gateway.routing import OWNERS
from services.gateway.schemas import (
    ApplyFiles,
    Link,
    Login,
    Me,
    NewPassword,
    NewUser,
    Refresh,
    Rollback,
    Session,
    System,
    UserChange,
    Users,
    UserView,
)
from services.gateway.sessions import Audit, Grant, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.socket import Stream
from services.gateway.sse import Events, StreamQuery

ROUTES: Final = Routes()
SETTINGS: Final = web.AppKey("settings", GatewaySettings)
SESSION: Final = web.AppKey("session", aiohttp.ClientSession)
PROXY: Final = web.AppKey("proxy", Proxy)
FUNCTIONS: Final = web.AppKey("functions", GatewayFunctions)
SESSIONS: Final = web.AppKey("sessions", Sessions)
AUDIT: Final = web.AppKey("audit", Audit)
HUB: Final = web.AppKey("hub", Hub)
CONFIGURATION: Final = web.AppKey("configuration", Configuration)
VERSIONS: Final = web.AppKey("versions", Versions)
STREAMS: Final[web.AppKey[set[Live]]] = web.AppKey("streams", set)


# ---------------------------------------------------------------- files


@ROUTES.post("/api/config/plan", role=Role.ENGINEER)
async def plan_files(request: web.Request) -> Reply:
    """Show what the configuration files would change, in every service."""
    return (await request.app[CONFIGURATION].plan(request.headers[hdrs.AUTHORIZATION])).document()


@ROUTES.post("/api/config/apply", role=Role.ENGINEER, body=ApplyFiles)
async def apply_files(request: web.Request, body: ApplyFiles) -> Reply:
    """Bring every service in line with its files; what did not change is not touched."""
    configuration, authorization = request.app[CONFIGURATION], request.headers[hdrs.AUTHORIZATION]
    made = await configuration.apply(authorization, await configuration.plan(authorization), body.reason)
    return await _kept(request, made, body.reason or "applied")


@ROUTES.post("/api/config/rollback", role=Role.ENGINEER, body=Rollback)
async def roll_back(request: web.Request, body: Rollback) -> Reply:
    """Bring a version of the files back and apply it; where that would be refused, the files stay as they were."""
    versions, configuration = request.app[VERSIONS], request.app[CONFIGURATION]
    authorization = request.headers[hdrs.AUTHORIZATION]
    number = chosen(await asyncio.to_thread(versions.all), body.version)
    before = await asyncio.to_thread(versions.save, request[USER].name, f"before going back to version {number}")
    await asyncio.to_thread(versions.restore, number)
    try:
        plan = await configuration.plan(authorization)
    except VoltageError:
        await asyncio.to_thread(versions.restore, before.number)
        raise
    made = await configuration.apply(authorization, plan, body.reason)
    return await _kept(request, made, body.reason or f"back to version {number}")


@ROUTES.get("/api/config/versions", role=Role.ENGINEER)
async def list_versions(request: web.Request) -> Reply:
    """List the kept versions of the files, newest first."""
    versions = await asyncio.to_thread(request.app[VERSIONS].all)
    return {"items": [version.document() for version in reversed(versions)], "cursor": None}


async def _kept(request: web.Request, made: Plan, reason: str) -> Document:
    """Keep the files as a version and note who applied them."""
    user = request[USER].name
    version = await asyncio.to_thread(request.app[VERSIONS].save, user, reason)
    await request.app[AUDIT].write(
        "config_applied", user, version=str(version.number), changes=str(len(made.changes)), reason=reason
    )
    return {"version": version.number, **made.document()}


# ---------------------------------------------------------------- log-in


@ROUTES.post("/api/auth/login", role=Role.VIEWER, open=True, body=Login, reply=Session)
async def login(request: web.Request, body: Login) -> Reply:
    """Log in by name and password, or by a one-time link."""
    sessions = request.app[SESSIONS]
    if body.link is not None:
        grant = await sessions.by_link(body.link, _address(request))
    else:
        grant = await sessions.by_password(body.name or "", body.password or "", _address(request))
    return _session(request, grant, cookie=body.cookie)


@ROUTES.post("/api/auth/refresh", role=Role.VIEWER, open=True, body=Refresh, reply=Session)
async def refresh(request: web.Request, body: Refresh) -> Reply:
    """Get the next access token."""
    token = body.refresh_token or request.cookies.get(_cookie_name(request))
    if not token:
        raise UnauthorizedError("no refresh token; log in")
    grant = await request.app[SESSIONS].refresh(token, _address(request))
    return _session(request, grant, cookie=body.refresh_token is None)


@ROUTES.post("/api/auth/logout", role=Role.VIEWER, body=Refresh, status=204)
async def logout(request: web.Request, body: Refresh) -> Reply:
    """End the session; its refresh token is worth nothing from now on."""
    token = body.refresh_token or request.cookies.get(_cookie_name(request))
    await request.app[SESSIONS].end(token, request[USER].name)
    answer = web.Response(status=204)
    answer.del_cookie(_cookie_name(request), path="/api/auth")
    return answer


@ROUTES.get("/api/auth/me", reply=Me)
async def me(request: web.Request) -> Reply:
    """Say who the token is."""
    user = request[USER]
    account = await asyncio.to_thread(request.app[SESSIONS].accounts.find, user.name)
    return Me(name=user.name, role=user.role, has_password=None if account is None else account.password is not None)


@ROUTES.put("/api/auth/me/password", role=Role.VIEWER, body=NewPassword, status=204)
async def set_my_password(request: web.Request, body: NewPassword) -> Reply:
    """Set one's own password; ends one's other sessions."""
    sessions = request.app[SESSIONS]
    account = await asyncio.to_thread(sessions.accounts.get, request[USER].name)
    if account.password is not None and not await sessions.passwords.check(account.password, body.current or ""):
        raise ForbiddenError("the current password does not fit")
    hashed = await sessions.passwords.hash(body.password)
    kept = request.cookies.get(_cookie_name(request))
    await asyncio.to_thread(sessions.accounts.change, account.name, password=hashed, keep_session=kept)
    await request.app[AUDIT].write("password_set", account.name)
    return None


def _session(request: web.Request, grant: Grant, *, cookie: bool) -> web.Response:
    """Answer with the tokens; the page's refresh token goes into a cookie that scripts can't read."""
    settings = request.app[SETTINGS].session
    account = grant.account
    session = Session(
        access_token=grant.access,
        expires_in_s=settings.access_ttl_s,
        refresh_token=None if cookie else grant.refresh,
        user=Me(name=account.name, role=account.role, has_password=account.password is not None),
    )
    answer = web.Response(body=session.model_dump_json(), content_type="application/json")
    answer.headers[hdrs.CACHE_CONTROL] = "no-store"
    if cookie:
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(
            _cookie_name(request), grant.refresh, max_age=settings.refresh_ttl_s,
            path="/api/auth", httponly=True, samesite="Strict", secure=secure,
        )  # fmt: skip
    return answer


def _cookie_name(request: web.Request) -> str:
    """Return the cookie's name: browsers tell hosts apart, not ports, and a machine may hold several sites."""
    return f"voltage_refresh_{request.app[SETTINGS].port_base}"


def _address(request: web.Request) -> str:
    """Return the caller's address; a proxy's word counts only when it is one of ours."""
    peer = request.remote or ""
    if peer in request.app[SETTINGS].trusted_proxies:
        return request.headers.get("X-Real-IP", peer)[:64]
    return peer


# ---------------------------------------------------------------- users


@ROUTES.get("/api/users", role=Role.ADMIN, reply=Users)
async def list_users(request: web.Request) -> Reply:
    """List all users."""
    accounts = await asyncio.to_thread(request.app[SESSIONS].accounts.users)
    return Users(items=[UserView.of(account) for account in accounts])


@ROUTES.post("/api/users", role=Role.ADMIN, body=NewUser, reply=UserView, status=201)
async def create_user(request: web.Request, body: NewUser) -> Reply:
    """Create a user."""
    sessions = request.app[SESSIONS]
    hashed = await sessions.passwords.hash(body.password) if body.password else None
    account = await asyncio.to_thread(sessions.accounts.create, body.name, body.role, hashed)
    await _note(request, "user_created", account.name, role=account.role.value)
    return UserView.of(account)


@ROUTES.get("/api/users/{name}", role=Role.ADMIN, reply=UserView)
async def get_user(request: web.Request) -> Reply:
    """Give a user."""
    return UserView.of(await asyncio.to_thread(request.app[SESSIONS].accounts.get, request.match_info["name"]))


@ROUTES.patch("/api/users/{name}", role=Role.ADMIN, body=UserChange, reply=UserView)
async def change_user(request: web.Request, body: UserChange) -> Reply:
    """Change a user's role or password, or disable the user; ends the user's sessions."""
    sessions, name = request.app[SESSIONS], request.match_info["name"]
    hashed = await sessions.passwords.hash(body.password) if body.password else None
    account = await asyncio.to_thread(
        sessions.accounts.change, name, role=body.role, password=hashed, disabled=body.disabled
    )
    changed = ",".join(sorted(body.model_dump(exclude_none=True)))
    await _note(request, "user_changed", name, changed=changed, role=account.role.value)
    await _end_streams(request.app, name, "your rights changed")
    return UserView.of(account)


@ROUTES.delete("/api/users/{name}", role=Role.ADMIN, status=204)
async def delete_user(request: web.Request) -> Reply:
    """Delete a user; ends the user's sessions."""
    name = request.match_info["name"]
    await asyncio.to_thread(request.app[SESSIONS].accounts.delete, name)
    await _note(request, "user_deleted", name)
    await _end_streams(request.app, name, "this user was deleted")
    return None


@ROUTES.post("/api/users/{name}/link", role=Role.ADMIN, reply=Link, status=201)
async def create_link(request: web.Request) -> Reply:
    """Make a link that logs a user in once."""
    accounts, name = request.app[SESSIONS].accounts, request.match_info["name"]
    account = await asyncio.to_thread(accounts.get, name)
    expires_at_ms = now_ms() + TTL_S * 1000
    link = await asyncio.to_thread(accounts.create_link, name, account.role, TTL_S)
    await _note(request, "link_created", name)
    return Link(link=link, path=f"/#link={link}", expires_at_ms=expires_at_ms)


async def _note(request: web.Request, action: str, target: str, **details: str) -> None:
    await request.app[AUDIT].write(action, request[USER].name, target=target, address=_address(request), **details)


async def _end_streams(app: web.Application, name: str, reason: str) -> None:
    """End the live streams of a user whose token may say more than the user is now."""
    for stream in [stream for stream in app[STREAMS] if stream.user is not None and stream.user.name == name]:
        await stream.end(reason)


# ---------------------------------------------------------------- the system


@ROUTES.get("/api/audit", role=Role.ADMIN, query=PageQuery, reply=Page)
async def audit(request: web.Request, query: PageQuery) -> Reply:
    """List log-ins and changes of users, newest first."""
    return await request.app[FUNCTIONS].audit_page(query.limit, query.cursor)


@ROUTES.get("/api/system", reply=System)
async def system(request: web.Request) -> Reply:
    """Say what runs here: versions, services, the function library."""
    settings = request.app[SETTINGS]
    results = await run_checks(request.app[CHECKS])
    try:
        functions = (await request.app[FUNCTIONS].library())._asdict()
    except VoltageError as error:
        functions = {"error": str(error)}
    services = {name: one["status"] if "error" not in one else one["error"] for name, one in results.items()}
    return System(
        version=version("voltageems"),
        namespace=settings.namespace,
        now_ms=now_ms(),
        functions=functions,
        services={name: text for name, text in services.items() if name in BY_NAME},
        clients=request.app[HUB].clients,
    )


@ROUTES.get("/openapi.json", open=True)
async def document(request: web.Request) -> Reply:
    """Describe the whole API as OpenAPI 3.1."""
    settings = request.app[SETTINGS]
    own = openapi("gateway", BY_NAME["gateway"].purpose, version("voltageems"), ROUTES.routes)
    urls = {name: f"{settings.service_url(name)}/openapi.json" for name in dict.fromkeys(OWNERS.values())}
    found: dict[str, Document | None] = await fetch_all(request.app[SESSION], urls)
    return merge_openapi(own, found)


@ROUTES.get("/ws", open=True, raw=True)
async def stream(request: web.Request) -> Reply:
    """Hold a live stream: a snapshot, then deltas."""
    if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        authorize(request)
        raise web.HTTPUpgradeRequired(headers={hdrs.UPGRADE: "websocket"})
    held = Stream(request.app[HUB], request.app[TOKEN_KEY], request.app[SETTINGS].stream)
    request.app[STREAMS].add(held)
    try:
        return await held.serve(request)
    finally:
        request.app[STREAMS].discard(held)


@ROUTES.get("/api/stream", query=StreamQuery, media="text/event-stream")
async def events(request: web.Request, query: StreamQuery) -> Reply:
    """Hold a live stream of server-sent events: a snapshot, then deltas."""
    held = Events(request.app[HUB], request.app[TOKEN_KEY], request.app[SETTINGS].stream)
    request.app[STREAMS].add(held)
    try:
        return await held.serve(request, tokens.bearer(request.headers.get(hdrs.AUTHORIZATION)), query)
    finally:
        request.app[STREAMS].discard(held)


# ---------------------------------------------------------------- the page and the services

ROUTES.get("/", open=True, raw=True)(page.index)
ROUTES.get("/login", open=True, raw=True)(page.index)
ROUTES.get("/assets/{file}", open=True, raw=True)(page.asset)


async def forward(request: web.Request) -> Reply:
    """Pass a call on to the service that owns the path."""
    service = OWNERS[request.path.split("/", 3)[2]]
    return await request.app[PROXY].forward(request, service, request.app[SETTINGS].service_url(service))


for _step in OWNERS:
    ROUTES.add("*", f"/api/{_step}", raw=True)(forward)
    ROUTES.add("*", f"/api/{_step}/{{tail:.*}}", raw=True)(forward)
