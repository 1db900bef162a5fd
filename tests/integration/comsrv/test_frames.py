"""The frame log: off until it is turned on while the channel runs, bounded, and in words."""

from __future__ import annotations

from typing import Any

from services.comsrv.traffic import FrameLog
from tests.integration.comsrv import test_api
from tests.integration.comsrv.site import Site
from tests.integration.comsrv.test_api import Api
from tests.support.wait import wait_until

api = test_api.api
FRAMES = "/api/channels/1001/frames"


async def test_frames_are_kept_from_when_they_are_asked_for(api: Api, site: Site):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    status, found = await api.call("GET", FRAMES)
    assert (status, found["on"], found["frames"]) == (200, False, [])
    assert (await api.call("PUT", FRAMES, {"seconds": 60, "limit": 6}))[0] == 200

    async def full() -> list[dict[str, Any]]:
        _, found = await api.call("GET", FRAMES)
        return list(found["frames"]) if len(found["frames"]) == 6 and found["frames"][0]["number"] > 2 else []

    frames = await wait_until(full, "the newest six frames")
    request = next(frame for frame in frames if frame["direction"] == "out")
    answer = frames[frames.index(request) + 1] if request is not frames[-1] else frames[0]
    assert request["meaning"].endswith("unit 1: read 3 holding registers from 0")
    assert request["hex"].endswith("00 00 00 06 01 03 00 00 00 03")
    assert answer["meaning"].endswith("unit 1: holding registers: 123, 65531, 512")
    _, later = await api.call("GET", f"{FRAMES}?after={frames[-1]['number']}")
    assert all(frame["number"] > frames[-1]["number"] for frame in later["frames"])


async def test_a_frame_that_was_not_taken_says_why(api: Api, site: Site):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    assert (await api.call("PUT", FRAMES, {"seconds": 60}))[0] == 200
    site.device.twists.append(lambda frame: b"\x00\x01" + frame[2:] + frame)

    async def rejected() -> list[dict[str, Any]]:
        _, found = await api.call("GET", FRAMES)
        return [frame for frame in found["frames"] if frame["remark"] in {"duplicate", "wrong_transaction"}]

    await wait_until(rejected, "the frame of another transaction")
    _, off = await api.call("PUT", FRAMES, {"seconds": 0})
    assert not off["on"]


async def test_what_has_no_frames_says_so(api: Api):
    status, found = await api.call("GET", "/api/channels/1100/frames")
    assert (status, found["code"]) == (409, "STATE")
    assert (await api.call("PUT", FRAMES, {"limit": 0}))[0] == 422
    assert (await api.call("GET", "/api/channels/7/frames"))[0] == 404


def test_the_log_ends_when_its_time_is_over():
    log = FrameLog(lambda _, data: data.hex())
    log.start(0.0)
    log.add(True, b"x")
    assert log.document() == {"on": False, "until_ms": None, "limit": 1000, "frames": []}
