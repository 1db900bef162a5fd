"""Routes decide which samples become which messages for which network."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any, Final, NamedTuple

import orjson

from libs.redis.queue import Sample
from services.netsrv.schemas import Network, Route
from services.netsrv.templates import Template

GOOD: Final = "good"
MQTT_TARGET: Final = "voltage/{owner}"
HTTP_TARGET: Final = ""
# The answers to commands go before values that wait.
ANSWERS: Final = 0
VALUES: Final = 1


class Message(NamedTuple):
    """What is to be sent: where to, what, and how."""

    route: str
    target: str
    payload: bytes
    at_ms: int
    qos: int = 1
    retain: bool = False
    text: bool = False
    lane: int = VALUES


class RouteWriter:
    """One enabled route, ready to write messages."""

    def __init__(self, route: Route, network: Network) -> None:
        self.route = route
        self.network = network.id or ""
        self.pattern = re.compile(translate(route.source))
        self._target = route.parsed_target(MQTT_TARGET if network.type == "mqtt" else HTTP_TARGET)
        self._template = route.parsed_template()
        # A target that names the point holds one sample a message, any other a list.
        self._single = "point" in self._target.fields

    def write(self, samples: Iterable[Sample], image: int) -> list[Message]:
        """Write samples: those whose target reads the same, at the same instant, share a message."""
        groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for sample in samples:
            values = self._values(sample, image)
            groups.setdefault((self._target.text(values), sample.at_ms), []).append(values)
        messages = []
        for (target, at_ms), group in groups.items():
            parts = [[values] for values in group] if self._single else [group]
            messages += [self._message(target, at_ms, part) for part in parts]
        return messages

    def _message(self, target: str, at_ms: int, group: list[dict[str, Any]]) -> Message:
        route, template = self.route, self._template
        if isinstance(template, Template):
            payload = route.separator.join(template.text(values) for values in group).encode()
        elif self._single:
            payload = orjson.dumps(_said(group[0], template) | ({} if template else {"at_ms": at_ms}))
        elif template is not None:
            payload = orjson.dumps([_said(values, template) for values in group])
        else:
            points = [_said(values, None) for values in group]
            payload = orjson.dumps({"at_ms": at_ms, "image": group[0]["image"], "points": points})
        return Message(route.id or "", target, payload, at_ms, route.qos, route.retain, isinstance(template, Template))

    def _values(self, sample: Sample, image: int) -> dict[str, Any]:
        service, owner, *kinds, point = sample.ref.split(":")
        kind = kinds[0] if kinds else ""
        return {
            "service": service,
            "owner": owner,
            "channel": owner if kind else "",
            "model": "" if kind else owner,
            "type": kind,
            "point": point,
            "ref": sample.ref,
            "value": sample.value,
            "quality": sample.quality or GOOD,
            "at_ms": sample.at_ms,
            "time": _time(sample.at_ms),
            "image": image,
            "route": self.route.id,
            "network": self.network,
        }


def _said(values: Mapping[str, Any], template: Mapping[str, Template] | None) -> dict[str, Any]:
    if template is not None:
        return {name: one.json(values) for name, one in template.items()}
    return {"ref": values["ref"], "value": values["value"], "quality": values["quality"]}


def _time(at_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


class Router:
    """All enabled routes of enabled networks, and which points of models a point is."""

    def __init__(
        self, networks: Iterable[Network], routes: Iterable[Route], models: Mapping[str, list[str]] | None = None
    ) -> None:
        by_id = {network.id: network for network in networks if network.enabled}
        writers = [RouteWriter(route, by_id[route.network]) for route in routes if _goes(route, by_id)]
        self.on_change = [writer for writer in writers if writer.route.trigger == "change"]
        self.on_interval = [writer for writer in writers if writer.route.trigger == "interval"]
        self._models = models or {}
        # reference -> [(writer's index, the point as that route sees it)]; the answers are kept.
        self._known: dict[str, list[tuple[int, str]]] = {}

    def write(self, samples: list[Sample], image: int) -> dict[str, list[Message]]:
        """Return the messages of a queue entry by network."""
        wanted: dict[int, list[Sample]] = {}
        for sample in samples:
            ref = sample.ref
            for index, seen_as in self._routes_of(ref):
                wanted.setdefault(index, []).append(sample if seen_as == ref else sample._replace(ref=seen_as))
        found: dict[str, list[Message]] = {}
        for index, chosen in sorted(wanted.items()):
            writer = self.on_change[index]
            found.setdefault(writer.network, []).extend(writer.write(chosen, image))
        return found

    def _routes_of(self, ref: str) -> list[tuple[int, str]]:
        known = self._known.get(ref)
        if known is None:
            names = [ref, *self._models.get(ref, ())]
            known = self._known[ref] = [
                (index, name)
                for index, writer in enumerate(self.on_change)
                for name in names
                if writer.pattern.match(name)
            ]
        return known


def _goes(route: Route, networks: Mapping[str | None, Network]) -> bool:
    return route.enabled and route.network in networks
