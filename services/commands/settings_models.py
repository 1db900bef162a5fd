"""The settings model of each service, by its name."""

from __future__ import annotations

import importlib

from libs.config import Settings
from libs.errors import NotFoundError
from libs.services import SERVICES


def settings_model(name: str) -> type[Settings]:
    """Return a service's settings model: `<Name>Settings` in `services.<name>.settings`.

    Raises:
        NotFoundError: there is no such service.
    """
    if name not in {service.name for service in SERVICES}:
        raise NotFoundError(f"no service {name!r}; there are {', '.join(service.name for service in SERVICES)}")
    model = getattr(importlib.import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings")
    assert isinstance(model, type)  # noqa: S101 - a slip of ours
    assert issubclass(model, Settings)  # noqa: S101 - a slip of ours
    return model
