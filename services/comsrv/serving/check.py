"""The table of the Modbus server against the site's channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.errors import ConfigurationError, Problem
from services.comsrv.channel import Channel
from services.comsrv.serving.table import Served, load_table
from services.comsrv.settings import ComsrvSettings

FILE: Final = "modbus_server.csv"


def load_served(settings: ComsrvSettings, channels: Sequence[Channel]) -> tuple[Served, ...]:
    """Read the table where the server is enabled.

    Raises:
        ConfigurationError: every problem, also a point that a channel of the files does not have.
            Channels that came through the API are not known here; their points show no value until they do.
    """
    if not settings.modbus_server.enabled:
        return ()
    path = settings.config_dir / FILE
    served = load_table(path, settings.modbus_server.mirrors)
    known = {str(channel.id): channel for channel in channels}
    problems = []
    for where, row in served:
        ref = row.point
        channel = known.get(ref.owner) if ref.service == "comsrv" else None
        if channel is None:
            continue
        point = channel.find(str(ref.kind), ref.point)
        if point is None:
            problems.append(Problem(where, f"there is no point {row.reference}"))
        elif point.family == "text":
            problems.append(Problem(where, f"{row.reference} is a text; the server shows numbers and states"))
    if not served:
        problems.append(Problem(str(path), "serves nothing; write it with: voltage modbus-server generate"))
    if problems:
        raise ConfigurationError(problems)
    return tuple(row for _, row in served)
