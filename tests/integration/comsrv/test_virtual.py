"""The virtual protocol."""

import pytest

from libs.errors import InvalidError, StateError
from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import ABSENT, QUALITY, ComBase
from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.virtual import Virtual, parse_generator


class TestVirtual(Conformance):
    """Conformance."""

    protocol = "virtual"
    has_device = False

    async def channel(self) -> Channel:
        points = {
            "T": [{"id": 1, "name": "t", "data_type": "float64"}],
            "S": [{"id": 1, "name": "s", "data_type": "bool"}],
            "C": [{"id": 1, "name": "c", "data_type": "bool"}],
            "A": [{"id": 1, "name": "a", "data_type": "float64", "min": -100, "max": 100}],
        }
        return Channel.model_validate({"id": 7, "name": "v", "protocol": "virtual", "points": points})

    async def prepare(self, plugin: ComBase, channel: Channel) -> None:
        for kind, value in ((PointKind.TELEMETRY, 23.5), (PointKind.SIGNAL, 1.0)):
            point = channel.find(kind, 1)
            assert point is not None
            plugin.set_point(kind, point, value, "", None)


def telemetry(*points: dict[str, object]) -> Channel:
    listed = [{"id": index + 1, "name": "p", "data_type": "float64", **point} for index, point in enumerate(points)]
    return Channel.model_validate({"id": 7, "name": "v", "protocol": "virtual", "points": {"T": listed}})


async def test_generators_stay_in_their_limits_and_walks_repeat_by_seed():
    async def walked() -> list[float]:
        plugin = Virtual()
        await plugin.initialize(
            telemetry({"expression": "sine(10, -5, 5)"}, {"expression": "walk(1, 0, 10, 3)"}), port_base=0
        )
        readings = [(await plugin.read_batch(plugin.blocks[0])).values for _ in range(50)]
        assert all(-5 <= values[0] <= 5 and 0 <= values[1] <= 10 for values in readings)
        return [float(values[1]) for values in readings]

    first = await walked()
    assert len(set(first)) > 10
    assert first == await walked()


async def test_a_point_never_set_says_nothing_and_a_restored_one_its_old_value():
    plugin = Virtual()
    channel = telemetry({}, {}, {"expression": "comsrv:1:T:1 * 2"})
    await plugin.initialize(channel, port_base=0)
    plugin.restore({(PointKind.TELEMETRY, 2): 7.5})
    (block,) = plugin.blocks
    reading = await plugin.read_batch(block)
    assert block.sections[0].ids == ("1", "2")
    assert reading.quality.tolist() == [ABSENT, 0]
    assert reading.values[1] == 7.5


async def test_a_quality_and_an_instant_can_be_set():
    plugin = Virtual()
    channel = telemetry({})
    await plugin.initialize(channel, port_base=0)
    plugin.set_point(PointKind.TELEMETRY, channel.points.T[0], 1.0, "uncertain:estimated", 1_700_000_000_000)
    reading = await plugin.read_batch(plugin.blocks[0])
    assert reading.at_ms == 1_700_000_000_000
    assert QUALITY[reading.quality[0]] == "uncertain:estimated"
    with pytest.raises(InvalidError):
        plugin.set_point(PointKind.TELEMETRY, channel.points.T[0], 1.0, "no such form", None)


async def test_generated_points_are_not_set():
    plugin = Virtual()
    channel = telemetry({"expression": "sine(1,0,1)"})
    await plugin.initialize(channel, port_base=0)
    with pytest.raises(StateError):
        plugin.set_point(PointKind.TELEMETRY, channel.points.T[0], 1.0, "", None)


@pytest.mark.parametrize("text", ["sine(0,1,2)", "sine(1,2)", "walk(1,5,2,0)", "sine(a,1,2)", "sine(inf,0,1)"])
def test_bad_generators_are_refused(text: str):
    with pytest.raises(InvalidError):
        parse_generator(text)
