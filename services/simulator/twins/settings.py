"""The file of `voltage simulate --from-points --faults`: values, faults by schedule, faults at random."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from libs.config.yaml_loader import load_yaml
from libs.errors import ConfigurationError, Problem
from libs.validation import Model, problems_of
from services.simulator.twins.faults import EXCEPTIONS, Fault, Kind
from services.simulator.twins.generators import Values
from services.simulator.twins.unit import Holes

# A wrong byte order can't be told from a right one, so it does not come at random.
RANDOM_KINDS: Final = tuple(kind for kind in Kind if kind is not Kind.BYTE_ORDER)
# Nor do these in RTU frames, which have no transaction numbers: an answer to somebody else of the same form.
UNSEEN_ON_RTU: Final = frozenset((Kind.WRONG_TRANSACTION, Kind.STALE))
Span = tuple[float, float]


def _every_kind() -> dict[Kind, float]:
    return dict.fromkeys(RANDOM_KINDS, 1.0)


class Scheduled(Fault):
    """A fault at an instant after the start; again every so often where `every_s` is given."""

    device: str = Field("*", description="channel/unit with wildcards: 1001/*")
    at_s: float = Field(ge=0)
    every_s: float | None = Field(None, gt=0)


class RandomFaults(Model):
    """Faults at random, one link at a time: each begins so long after the one before is over and answered."""

    device: str = Field("*", description="channel/unit with wildcards; links with such a unit")
    after_s: float = Field(0.0, ge=0, description="time from the start without faults")
    every_s: Span = (2.0, 10.0)
    for_s: Span = (0.1, 3.0)
    count: tuple[int, int] = (1, 3)
    ms: tuple[int, int] = (50, 1500)
    limit: int | None = Field(None, ge=1, description="faults in all; then no more")
    codes: tuple[int, ...] = EXCEPTIONS
    kinds: dict[Kind, float] = Field(default_factory=_every_kind, description="fault -> how often beside the others")


class TwinSettings(Model):
    """The whole file."""

    seed: int = 1
    step_ms: int = Field(500, ge=20, le=60_000, description="time between two steps of the values")
    holes: Holes = Field("refuse", description="addresses that no point has: exception 2, or zero")
    values: tuple[Values, ...] = Field((), description="the first whose `points` fit a point counts")
    faults: tuple[Scheduled, ...] = ()
    random: RandomFaults | None = None


def load_settings(path: Path | None) -> TwinSettings:
    """Read the file; without one, the defaults.

    Raises:
        ConfigurationError: with every problem of the file.
    """
    if path is None:
        return TwinSettings()
    document = load_yaml(path)
    try:
        return TwinSettings.model_validate(document.data if document.data is not None else {})
    except ValidationError as error:
        problems: list[Problem] = problems_of(error, TwinSettings, document.where)
        raise ConfigurationError(problems) from None
