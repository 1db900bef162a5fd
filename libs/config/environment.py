"""Environment variables, matched against the settings model.

The names are made from the model and then looked up, never split at
underscores: `VOLTAGE_REDIS_URL` is `redis.url` and `VOLTAGE_DATA_DIR` is
`data_dir` because those are the settings there are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args, get_origin

import orjson
from pydantic import BaseModel, SecretStr

from libs.config.settings import Secret, Shared
from libs.errors import Problem
from libs.validation import models_in, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

    from libs.validation import Path as KeyPath

ANY: Final = "*"
FILE: Final = "_FILE"


class Setting(NamedTuple):
    """A leaf of a settings model; `*` in the path is any key of a mapping."""

    path: tuple[str, ...]
    secret: bool
    structured: bool

    @property
    def name(self) -> str:
        """The variable's name without its prefix, as in REDIS_URL or SERVICES_*_URL."""
        return "_".join(self.path).upper()


def settings_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Walk the leaves of a settings model."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        origin, inner = get_origin(field.annotation), models_in(field.annotation)
        if origin is dict and inner:
            yield from settings_of(inner[0], (*here, ANY))
        elif inner and origin not in {list, tuple}:
            yield from settings_of(inner[0], here)
        else:
            yield Setting(here, _is_secret(field), origin in {list, tuple, dict})


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation)) or any(
        isinstance(mark, Secret) for mark in field.metadata
    )


class Environment:
    """What the environment says about one service's settings."""

    def __init__(self, model: type[BaseModel], service: str, environ: Mapping[str, str]) -> None:
        """Read the variables; problems are collected, not raised."""
        self.values: dict[KeyPath, Any] = {}
        self.names: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self.config_file: Path | None = None
        self._environ = environ
        own = list(settings_of(model))
        shared = list(settings_of(Shared))
        own_paths = {setting.path for setting in own}
        prefix = f"{service.upper()}_"
        # The service's own variables come last because they win.
        for start, known in (("VOLTAGE_", shared), (prefix, own)):
            for name in sorted(environ):
                if name.startswith(start) and environ[name] != "":
                    self._take(name, start, known, own_paths, [prefix, *map(_name, own)])

    def _take(
        self,
        name: str,
        start: str,
        known: list[Setting],
        own_paths: set[tuple[str, ...]],
        hints: list[str],
    ) -> None:
        rest = name.removeprefix(start)
        if rest == "CONFIG_FILE" and start != "VOLTAGE_":
            self.config_file = Path(self._environ[name])
            return
        for setting in known:
            path = _match(setting, rest)
            from_file = path is None and setting.secret and rest.endswith(FILE)
            if from_file:
                path = _match(setting, rest.removesuffix(FILE))
            if path is None:
                continue
            if setting.path in own_paths:
                self._set(name, path, setting, from_file=from_file)
            return
        names = [start + _name(setting) for setting in known]
        names += [start + _name(setting) + FILE for setting in known if setting.secret]
        names += [hints[0] + hint for hint in hints[1:]]
        self.problems.append(Problem(name, f"unknown variable{nearest(name, names)}"))

    def _set(self, name: str, path: KeyPath, setting: Setting, *, from_file: bool) -> None:
        twin = name.removesuffix(FILE) if from_file else name + FILE
        if setting.secret and self._environ.get(twin, ""):
            if from_file:
                self.problems.append(Problem(name, f"{twin} is set too; set one of them"))
            return
        text = self._environ[name]
        try:
            value: Any = Path(text).read_text(encoding="utf-8").strip() if from_file else text
            self.values[path] = orjson.loads(value) if setting.structured else value
        except OSError as error:
            self.problems.append(Problem(name, f"{text} can't be read: {error.strerror}"))
        except ValueError:
            self.problems.append(Problem(name, "must be JSON"))
        self.names[path] = name


def _name(setting: Setting) -> str:
    return setting.name


def _match(setting: Setting, rest: str) -> KeyPath | None:
    """Return the path a variable's name stands for, or None."""
    if ANY not in setting.path:
        return setting.path if rest == setting.name else None
    found = re.fullmatch(re.escape(setting.name).replace(re.escape(ANY), "([A-Z0-9-]+)"), rest)
    if not found:
        return None
    keys = iter(found.groups())
    return tuple(next(keys).lower() if step == ANY else step for step in setting.path)
