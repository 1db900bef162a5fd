"""Knowing one service is knowing all: the same files, the same start, the same rules for routes."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from libs.config import Settings
from libs.http.openapi import openapi
from libs.http.routes import Route, Routes
from libs.http.tokens import Role
from libs.services import SERVICES

ROOT: Final = Path(__file__).parents[2]
FILES: Final = {
    "__init__.py", "__main__.py", "app.py", "settings.py", "schemas.py", "handlers.py", "functions.py",
}  # fmt: skip
NAMES: Final = [service.name for service in SERVICES]
# Who has no token yet, and the page itself.
OPEN: Final = {"/api/auth/login", "/api/auth/refresh", "/api/auth/logout", "/"}


def declared(name: str) -> list[Route]:
    """Return the routes a service declares."""
    handlers = importlib.import_module(f"services.{name}.handlers")
    found = [value for value in vars(handlers).values() if isinstance(value, Routes)]
    assert len(found) == 1, f"services.{name}.handlers holds one Routes, not {len(found)}"
    return found[0].routes


@pytest.mark.parametrize("name", NAMES)
def test_every_service_has_the_same_files(name: str) -> None:
    """So that a reader who knows one finds everything in the next."""
    present = {path.name for path in (ROOT / "services" / name).glob("*.py")}
    assert present >= FILES, f"services/{name} lacks {sorted(FILES - present)}"


@pytest.mark.parametrize("name", NAMES)
def test_its_init_is_a_signpost(name: str) -> None:
    """The folder's docstring is its whole content, and tells the port."""
    tree = ast.parse((ROOT / "services" / name / "__init__.py").read_text())
    text = ast.get_docstring(tree) or ""
    assert "port" in text.lower(), text
    assert len(tree.body) <= 2, "an __init__ holds its docstring and no code"


@pytest.mark.parametrize("name", NAMES)
def test_create_app_takes_settings_and_connects_to_nothing(name: str, tmp_path: Path) -> None:
    """The composition root; nothing runs before the application starts."""
    app = importlib.import_module(f"services.{name}.app")
    model = getattr(importlib.import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings")
    assert issubclass(model, Settings)
    nowhere = {"data_dir": tmp_path / "data", "config_dir": tmp_path, "redis": {"url": "redis://127.0.0.1:1"}}
    assert isinstance(app.create_app(model.model_validate(nowhere)), web.Application)


@pytest.mark.parametrize("name", NAMES)
def test_routes_are_documented_and_need_a_token(name: str) -> None:
    """Each says what it does; only log-in and the page are open; what changes something needs more than a viewer."""
    for route in declared(name):
        where = f"{route.method} {route.path}"
        assert (route.handler.__doc__ or "").strip(), f"{where} has no docstring"
        if route.path.startswith("/api/"):
            assert not route.open or route.path in OPEN, f"{where} is open"
        if route.method in {"PUT", "PATCH", "DELETE"} and not route.open and not route.path.startswith("/api/auth/"):
            assert route.raw or route.role is not Role.VIEWER, f"{where} lets a viewer change something"


@pytest.mark.parametrize("name", NAMES)
def test_openapi_names_every_operation_once(name: str) -> None:
    """Programs generate clients from these names."""
    document = openapi(name, "", "1", declared(name))
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)), sorted(names)


def test_ports_and_names_are_unique() -> None:
    """The one table has no two services in one place."""
    assert len({service.offset for service in SERVICES}) == len(SERVICES)
    assert len(set(NAMES)) == len(SERVICES)
