"""What a recommendation says of other settings is what the detectors do with them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from libs.redis.functions import Functions
from services.alarmsrv.quality.recommend import Sample, Setting, recommend, replay
from tests.support.site import START, Site

STEP_MS = 500


def noisy(seed: int, *, bad: bool, slow: float = 8, swing: float = 2.5) -> list[Sample]:
    """Return a series that wavers about 80 as a sensor with noise does; some of it is unknown."""
    chance = random.Random(seed)
    samples, at = [], START
    for number in range(200):
        at += chance.choice([STEP_MS, 2 * STEP_MS, 6 * STEP_MS])
        value = round(80 + swing * math.sin(number / slow) + chance.uniform(-1.5, 1.5), 3)
        samples.append(Sample(at, None if bad and chance.random() < 0.1 else value))
    return samples


async def played(functions: Functions, samples: list[Sample], setting: Setting) -> int:
    """Give the series to a real definition and return how often its alarm began."""
    site = await Site(functions).start()
    definition: dict[str, Any] = {
        "source": "comsrv:1001:T:1", "detector": setting.detector, "limit": setting.limit, "level": "Warning",
        "deadband": setting.deadband, "on_delay_ms": setting.on_delay_ms, "off_delay_ms": setting.off_delay_ms,
    }  # fmt: skip
    await functions.call("alarm_define", "hot", definition)
    for sample in samples:
        while site.now + STEP_MS <= sample.at_ms:
            await site.pass_ms(STEP_MS)
        good = {} if sample.value is None else {1: sample.value}
        await site.put(good, {1: "bad:timeout"} if sample.value is None else None)
    await site.pass_ms(3_600_000)
    entries = await site.entries("alarmsrv:journal")
    return sum((entry["event"], entry["origin"]) == ("raised", "alarm:hot") for entry in entries)


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize(
    "setting",
    [
        Setting("Hi", 80),
        Setting("Hi", 80, deadband=2),
        Setting("Hi", 80, on_delay_ms=2000),
        Setting("Hi", 80, off_delay_ms=5000),
        Setting("Hi", 80, deadband=1, on_delay_ms=1500, off_delay_ms=2500),
        Setting("Lo", 80, deadband=1.5, off_delay_ms=1000),
    ],
    ids=str,
)
async def test_a_replay_counts_as_the_detector_does(functions: Functions, setting: Setting, bad: bool) -> None:
    samples = noisy(7, bad=bad)
    counted = replay(samples, setting, samples[-1].at_ms + 3_600_000).begins
    assert counted > 1
    assert counted == await played(functions, samples, setting)


async def test_the_recommended_deadband_has_the_effect_it_promises(functions: Functions) -> None:
    """The same series with the recommended setting: as many alarms as were foretold, a fifth of before at most."""
    samples = noisy(3, bad=False, slow=60, swing=2)
    setting = Setting("Hi", 80, deadband=0.1)
    found = recommend(samples, setting, samples[-1].at_ms + 3_600_000)
    assert found["now"]["alarms"] >= 10
    advice = {name: wanted for name, wanted in found["recommended"].items() if wanted}
    assert "deadband" in advice, found
    for name, wanted in advice.items():
        assert 1 <= wanted["alarms"] <= found["now"]["alarms"] / 5
        changed = {name: wanted["value"]}
        await functions.client.flushall()
        assert await played(functions, samples, setting._replace(**changed)) == wanted["alarms"], (name, wanted)
