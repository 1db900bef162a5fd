"""Load a service's settings, knowing where each value came from."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from pydantic import SecretStr

from libs.config.environment import ANY, Environment, settings_of
from libs.config.settings import Settings
from libs.config.yaml_loader import Document, read_yaml
from libs.errors import ConfigurationError, Problem
from libs.validation import UNPLACED, dotted, examined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from libs.validation import Path as KeyPath

DEFAULT: Final = "default"
MASK: Final = "********"
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")

T = TypeVar("T", bound=Settings)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Settings, the source of each value, and the file they were read from."""

    settings: T
    sources: dict[str, str]
    document: Document

    def shown(self) -> Iterator[tuple[str, str, str]]:
        """Yield (setting, value, source) of every leaf, secrets masked."""
        for path, value, secret in _leaves(self.settings):
            name = dotted(path)
            yield name, masked(value) if secret else plain(value), self.sources[name]


class Examined(NamedTuple, Generic[T]):
    """Settings as far as they could be made, all that is wrong with them, and the file."""

    settings: T | None
    problems: list[Problem]
    environment: Environment
    document: Document


def load(model: type[T], service: str, environ: Mapping[str, str] = os.environ) -> Loaded[T]:
    """Load settings: defaults < YAML < `VOLTAGE_<PATH>` < `<SERVICE>_<PATH>`.

    The file is `<SERVICE>_CONFIG_FILE`, else `<config_dir>/<service>.yaml`
    where that exists. An empty variable counts as not set.

    Raises:
        ConfigurationError: every problem of file and environment at once.
    """
    settings, problems, environment, document = examine(model, service, environ)
    if problems or settings is None:
        raise ConfigurationError(problems)
    sources = {
        dotted(path): environment.names.get(path) or (document.where(path) if path in document.lines else DEFAULT)
        for path, _, _ in _leaves(settings)
    }
    return Loaded(settings, sources, document)


def reload(settings: T, service: str) -> T:
    """Load a service's settings anew, from where it took them.

    Raises:
        ConfigurationError: every problem of file and environment at once.
    """
    environ = os.environ | {"VOLTAGE_CONFIG_DIR": str(settings.config_dir)}
    return load(type(settings), service, environ).settings


def examine(model: type[T], service: str, environ: Mapping[str, str] = os.environ) -> Examined[T]:
    """Load settings as `load` does, and give every problem together with what is right."""
    environment = Environment(model, service, environ)
    problems = list(environment.problems)
    document = Document(f"{service}.yaml", {})
    try:
        document = _read(environment, model, service)
    except ConfigurationError as error:
        problems += error.problems
    problems += document.problems
    data = copy.deepcopy(document.data)
    for path, value in environment.values.items():
        _put(data, path, value)

    def where(path: KeyPath) -> str:
        return environment.names.get(path) or document.unsaid(path)

    settings, found = examined(model, data, where)
    problems += [problem for problem in found if problem.where != UNPLACED]
    return Examined(settings, problems, environment, document)


def masked(value: object) -> str:
    """Show a secret: only the address of a URL, nothing of anything else."""
    if value is None:
        return plain(value)
    if isinstance(value, str) and "://" in value:
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", value)
    return MASK


def plain(value: object) -> str:
    """Show a value on one line."""
    return "" if value is None else str(value)


def _read(environment: Environment, model: type[Settings], service: str) -> Document:
    """Read the service's file; an absent one is empty unless it was asked for by name."""
    path = environment.config_file
    if path is None:
        default = model.model_fields["config_dir"].default
        path = Path(environment.values.get(("config_dir",), default)) / f"{service}.yaml"
        if not path.exists():
            return Document(str(path), {})
    document = read_yaml(path)
    if document.data is None:
        document.data = {}
    if not isinstance(document.data, dict):
        raise ConfigurationError([Problem(document.where(), "must be a mapping of settings")])
    return document


def _put(data: dict[str, Any], path: KeyPath, value: object) -> None:
    """Set a value deep in a document; a wrong shape on the way is left for validation."""
    *parents, last = path
    for step in parents:
        inner = data.get(str(step))
        if inner is None:
            inner = data[str(step)] = {}
        if not isinstance(inner, dict):
            return
        data = inner
    data[str(last)] = value


def _leaves(settings: Settings) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """Yield (path, value, secret) of every leaf that has a value, mappings expanded."""
    for setting in settings_of(type(settings)):
        for path, value in _values(settings, setting.path):
            shown = value.get_secret_value() if isinstance(value, SecretStr) else value
            yield path, shown, setting.secret


def _values(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not path:
        yield (), value
        return
    step, *rest = path
    if step == ANY:
        choices = sorted(value.items())
    elif value is None:
        choices = []
    else:
        choices = [(step, getattr(value, step))]
    for name, inner in choices:
        for inner_path, leaf in _values(inner, tuple(rest)):
            yield (name, *inner_path), leaf
