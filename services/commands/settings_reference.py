"""The reference of all settings, read from the settings models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from libs.config import Settings
from libs.config.environment import settings_of
from libs.config.settings import Shared
from libs.services import SERVICES
from services.commands.settings_models import settings_model

HEADER: Final = """\
# Settings

Written from the settings models by `scripts/check_generated.py --write`; do not edit.

Order: default < `config/<service>.yaml` < `VOLTAGE_<NAME>` < `<SERVICE>_<NAME>`, as in `VOLTAGE_REDIS_URL`
and `COMSRV_REDIS_URL`. A dotted setting is nested in YAML. A secret may also come from a file:
`<VARIABLE>_FILE`. `voltage config show SERVICE` prints what is in force and where it came from.
"""


def markdown() -> str:
    """Return the text of config/SETTINGS.md."""
    parts = [HEADER, "\n## Every service\n\n", _table(Shared, "VOLTAGE_", ())]
    common = tuple(".".join(setting.path) for setting in settings_of(Settings))
    for service in SERVICES:
        model = settings_model(service.name)
        parts += [f"\n## {service.name}\n\n{service.purpose}\n\n", _table(model, f"{service.name.upper()}_", common)]
    return "".join(parts)


def _table(model: type[BaseModel], prefix: str, without: tuple[str, ...]) -> str:
    rows = list(_rows(model, prefix, without))
    if not rows:
        return "Nothing of its own.\n"
    return "| setting | default | variable | what it is |\n|---|---|---|---|\n" + "".join(
        f"| {' | '.join(row)} |\n" for row in rows
    )


def _rows(model: type[BaseModel], prefix: str, without: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    for setting in settings_of(model):
        name = ".".join(setting.path)
        if name in without:
            continue
        default, description = _described(model, setting.path)
        yield f"`{name}`", default, f"`{prefix}{setting.name}`", description.replace("|", "\\|")


def _described(model: type[BaseModel], path: tuple[str, ...]) -> tuple[str, str]:
    """Return a setting's default and description; the default of what is nested stands in its own model."""
    value: Any = model
    description = ""
    for step in path:
        owner: Any = value if isinstance(value, type) else type(value)
        fields = owner.model_fields
        if step not in fields:
            return "", description
        field = fields[step]
        description = field.description or description
        value = field.get_default(call_default_factory=True) if isinstance(value, type) else getattr(value, step)
        if value is PydanticUndefined or (not isinstance(value, BaseModel) and step != path[-1]):
            return "", description
    return ("" if value is None or value in ("", (), {}) else f"`{value}`"), description
