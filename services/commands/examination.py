"""All that is wrong with a site's files: what their models say, and what the functions would refuse."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.config import load
from libs.config.desired import DesiredError, Entry
from libs.config.load import examine
from libs.config.yaml_loader import Document
from libs.definitions import Call, Change
from libs.errors import ConfigurationError, Problem, UnavailableError
from libs.redis.definitions import FROM_FILE
from libs.redis.server import find_binary
from libs.redis.trial import tried
from libs.services import SERVICES
from libs.site import load_site
from libs.validation import examined
from services.commands.settings_models import settings_model

TABLES: Final = "comsrv"
_STEP: Final = re.compile(r"([A-Za-z_]\w*)|\[(\d+)\]")


class Examined(NamedTuple):
    """What was found, and why the functions could not be asked, where they could not."""

    problems: list[Problem]
    warnings: list[str]
    untried: str | None


class _Read(NamedTuple):
    """What the files of a service say, as calls of functions, and what is wrong with them."""

    problems: list[Problem]
    calls: Sequence[Call] = ()
    # Of definitions that have problems.
    ill: frozenset[str] = frozenset()
    warnings: Sequence[str] = ()


def examine_site(names: Sequence[str] = ()) -> Examined:
    """Examine the files of the services that are named, or of all and of the simulated site.

    Raises:
        NotFoundError: there is no such service.
    """
    order = [service.name for service in SERVICES]
    for name in names:
        settings_model(name)
    wanted = [name for name in order if name in names] or order
    # What a service's files say may build on those of the services before it.
    read = {name: _read(name) for name in order[: order.index(wanted[-1]) + 1]}
    problems: list[Problem] = []
    refused: dict[str, list[Problem]] = {}
    untried = None
    try:
        refused, untried = _tried(read)
    except ConfigurationError as error:
        problems += error.problems
    problems += [problem for name in wanted for problem in (*read[name].problems, *refused.get(name, ()))]
    if not names:
        problems += _around()
    # The same wrong variable is met by each service.
    return Examined(list(dict.fromkeys(problems)), [text for name in wanted for text in read[name].warnings], untried)


def _tried(read: Mapping[str, _Read]) -> tuple[dict[str, list[Problem]], str | None]:
    """Have the functions look at all of it; return what they refuse of each service, and why they could not be asked.

    Raises:
        ConfigurationError: the server that is set is none.
    """
    if not any(one.calls for one in read.values()):
        return {}, None
    try:
        binary = find_binary(load_site().settings.redis.server)
        calls = {name: one.calls for name, one in read.items()}
        return tried(binary, (), calls, {name: one.ill for name, one in read.items()}), None
    except UnavailableError as error:
        return {}, str(error)


def _around() -> list[Problem]:
    """Return the problems of the folder and of the simulated site, where there is one."""
    try:
        site = load_site()
        site.require_config()
        file = site.config_dir / "simulate.yaml"
        if file.exists():
            from services.simulator.settings import load_settings

            load_settings(file)
    except ConfigurationError as error:
        return error.problems
    return []


def _read(name: str) -> _Read:
    try:
        return _read_tables() if name == TABLES else _read_definitions(name)
    except ConfigurationError as error:
        return _Read(error.problems)


def _read_definitions(name: str) -> _Read:
    """Read a service's settings and its definitions; those in files of their own also where the settings are wrong."""
    model = settings_model(name)
    settings, problems, environment, document = examine(model, name)
    module = importlib.import_module(f"services.{name}.app")
    kinds = getattr(module, "KINDS", None)
    if kinds is None:
        return _Read(problems)
    if settings is None:
        folder = environment.values.get(("config_dir",), model.model_fields["config_dir"].default)
        settings = model(config_dir=Path(folder))
    entries: list[Entry] = []
    ill: frozenset[str] = frozenset()
    try:
        entries = module.desired(settings)
    except DesiredError as error:
        problems, entries, ill = problems + error.problems, error.entries, error.ill
    calls = [kinds[entry.section].putting(entry, Change(FROM_FILE)) for entry in entries]
    return _Read(
        [problem._replace(where=_place(problem.where, document)) for problem in problems],
        [call._replace(where=_place(call.where, document)) for call in calls],
        ill,
    )


def _place(where: str, document: Document) -> str:
    """Return where a definition of a service's own file stands, with the line; any other place as it is."""
    file, found, path = where.partition(": ")
    if not found or Path(file).name != Path(document.name).name or ":" in file:
        return where
    keys = [name or int(index) for name, index in _STEP.findall(path)]
    return f"{document.where(tuple(keys))}: {path}"


def _read_tables() -> _Read:
    """Read comsrv.yaml and the tables; what a link can't carry is looked at where all of them are well.

    Raises:
        ConfigurationError: every problem.
    """
    from services.commands.points import check_capacity
    from services.comsrv.planning import putting, read_channels
    from services.comsrv.serving.check import load_served
    from services.comsrv.settings import ComsrvSettings

    _check_tables()
    loaded = load(ComsrvSettings, TABLES)
    found = read_channels(loaded)
    channels = [channel for channel, _ in found]
    problems: list[Problem] = []
    warnings: list[str] = []
    try:
        load_served(loaded.settings, channels)
    except ConfigurationError as error:
        problems += error.problems
    try:
        warnings = check_capacity(loaded, channels)
    except ConfigurationError as error:
        problems += error.problems
    return _Read(problems, [putting(channel, where) for channel, where in found], warnings=warnings)


def _check_tables() -> None:
    """Check comsrv.yaml, and where it is wrong also the tables of the channels it describes well.

    Raises:
        ConfigurationError: the problems of the file, then those of the tables.
    """
    from services.comsrv.channel import ChannelSettings
    from services.comsrv.settings import ComsrvSettings
    from services.comsrv.tables.site import load_site as load_tables

    site, (_, problems, _, document) = load_site(), examine(ComsrvSettings, TABLES)
    if not problems:
        return
    data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
    declared = data.get("channels")
    found = [
        (index, examined(ChannelSettings, item)[0])
        for index, item in enumerate(declared if isinstance(declared, list) else ())
    ]
    well = {index: channel for index, channel in found if channel is not None}
    places = list(well)
    settings = ComsrvSettings(port_base=site.settings.port_base, channels=tuple(well.values()))
    try:
        load_tables(site.config_dir, settings, lambda path: document.where((path[0], places[int(path[1])])))
    except ConfigurationError as error:
        problems += error.problems
    raise ConfigurationError(problems)
