"""grpc against the example gateway, which is written with grpclib: another HTTP/2, another stack."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from grpclib.server import Server

from libs.points import PointKind
from services.comsrv import ledger
from services.comsrv.channel import Channel
from services.comsrv.contract import (
    QUALITY,
    ComBase,
    MalformedError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.grpc import gateway_pb2
from services.comsrv.plugins.grpc.plugin import Grpc
from services.comsrv.runner import Runner, definition, from_definition
from services.comsrv.tables import check_channel
from tests.integration.comsrv.site import Site
from tests.support.brokers import make_authority, make_certificate
from tests.support.wait import wait_until

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "grpc-gateway" / "gateway.py"


def example() -> Any:
    """Return the example's module, its messages those of the plugin: a process registers them once."""
    sys.modules["gateway_pb2"] = gateway_pb2
    spec = importlib.util.spec_from_file_location("example_gateway", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["gateway_pb2"]
    return module


class Listening(Server):
    """A server whose connections can be cut, as by a crash: grpclib's own way is to let them end."""

    def __init__(self, gateway: Any) -> None:
        super().__init__([gateway])
        self.protocols: list[Any] = []

    def _protocol_factory(self) -> Any:
        self.protocols.append(super()._protocol_factory())
        return self.protocols[-1]

    @property
    def port(self) -> int:
        assert self._server is not None
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def cut(self) -> None:
        self.close()
        for protocol in self.protocols:
            transport = getattr(getattr(protocol, "connection", None), "_transport", None)
            if transport is not None:
                transport.abort()
        await self.wait_closed()


class Peer:
    """The example gateway with a genset, in this process, on a port of its own."""

    def __init__(self) -> None:
        self.module = example()
        self.genset = self.module.Device(
            {"start", "setpoint"}, power=23.5, breaker=1, start=0, setpoint=0, state="running"
        )
        self.gateway = self.module.Gateway({"genset": self.genset})
        self.tls: ssl.SSLContext | None = None
        self.port = 0
        self.server: Listening | None = None

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self.server = Listening(self.gateway)
        await self.server.start("127.0.0.1", self.port, ssl=self.tls)
        self.port = self.server.port

    async def serve(self, **calls: Any) -> None:
        """Serve some calls otherwise from now on."""
        await self.stop()
        vars(self.gateway).update(calls)
        await self.start()

    async def stop(self) -> None:
        """End connections and listening."""
        if self.server is not None:
            await self.server.cut()
            self.server = None

    def channel(self, **parameters: Any) -> Channel:
        """Return a channel of the genset."""

        def at(name: str, **more: Any) -> dict[str, Any]:
            return {"device": "genset", "name": name, **more}

        points = {
            "T": [{"id": 1, "name": "Power", "data_type": "float64", "mapping": at("power")}],
            "S": [{"id": 1, "name": "Breaker", "data_type": "bool", "mapping": at("breaker")}],
            "C": [{"id": 1, "name": "Start", "data_type": "bool", "mapping": at("start")}],
            "A": [{"id": 1, "name": "Set-point", "data_type": "float64", "scale": 0.5, "min": -100, "max": 100,
                   "mapping": at("setpoint")}],
        }  # fmt: skip
        where = {"host": "127.0.0.1", "port": self.port, "timeout_ms": 500, **parameters}
        document = {"id": 1001, "name": "Genset", "protocol": "grpc", "parameters": where, "points": points}
        return Channel.model_validate(document | {"polling": {"interval_ms": 100}})


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    await found.start()
    yield found
    await found.stop()


@contextlib.asynccontextmanager
async def connected(channel: Channel) -> AsyncIterator[Grpc]:
    assert check_channel(channel, 6000) == []
    plugin = Grpc()
    await plugin.initialize(channel, port_base=6000)
    try:
        await plugin.connect()
        yield plugin
    finally:
        await plugin.close()


class TestGrpc(Conformance):
    """Conformance."""

    protocol = "grpc"

    @pytest.fixture(autouse=True)
    async def _peer(self, peer: Peer) -> None:
        self.peer = peer

    async def channel(self) -> Channel:
        return self.peer.channel()

    async def lose_device(self) -> None:
        await self.peer.stop()

    async def return_device(self) -> None:
        await self.peer.start()


# What is read.


async def reading(plugin: ComBase) -> dict[str, tuple[float, str]]:
    found = {}
    for block in plugin.blocks:
        answer = await plugin.read_batch(block)
        for section in block.sections:
            for place, point in enumerate(section.ids, section.start):
                shown = f"{section.kind}:{point}", QUALITY[int(answer.quality[place])]
                found[shown[0]] = float(answer.values[place]), shown[1]
    return found


async def test_qualities_texts_and_scales_are_taken_over(peer: Peer):
    document = definition(peer.channel(stream=False))
    document["points"]["T"] += [
        {"id": 2, "name": "state", "data_type": "string", "mapping": {"device": "genset", "name": "state"}},
        {"id": 3, "name": "half", "data_type": "float64", "scale": 0.5, "offset": 1,
         "mapping": {"device": "genset", "name": "power"}},
        {"id": 4, "name": "none", "data_type": "float64", "mapping": {"device": "genset", "name": "nothing"}},
    ]  # fmt: skip
    document["points"]["S"][0]["reverse"] = True
    peer.genset.quality["power"] = "uncertain:old"
    async with connected(from_definition(document)) as plugin:
        assert await reading(plugin) == {
            "T:1": (23.5, "uncertain:old"), "T:2": (0.0, ""), "T:3": (12.75, "uncertain:old"),
            "T:4": (0.0, "bad:unknown_point"), "S:1": (0.0, ""),
        }  # fmt: skip
        answer = await plugin.read_batch(plugin.blocks[0])
        assert answer.texts == ("running",)
        assert abs(answer.at_ms - time.time() * 1000) < 1000
        peer.genset.quality.clear()
        peer.genset.values["power"] = float("nan")
        assert (await reading(plugin))["T:1"] == (0.0, "bad:nan")
        peer.genset.values["power"] = 1e300
        assert (await reading(plugin))["T:1"] == (0.0, "bad:out_of_range")
        peer.genset.quality["power"] = "odd"
        with pytest.raises(MalformedError, match="'odd'"):
            await plugin.read_batch(plugin.blocks[0])


async def test_what_a_status_says_of_the_points(peer: Peer):
    async with connected(peer.channel()) as plugin:
        block = plugin.blocks[0]
        peer.genset.answers = False
        with pytest.raises(NoAnswerError, match="genset does not answer"):
            await plugin.read_batch(block)
        del peer.gateway.devices["genset"]
        with pytest.raises(RefusedError) as refused:
            await plugin.read_batch(block)
        assert refused.value.quality == "bad:not_found"


async def ask(plugin: Grpc, times: int) -> None:
    for _ in range(times):
        with contextlib.suppress(NoAnswerError):
            await plugin.read_batch(plugin.blocks[0])


async def test_a_gateway_that_hangs_is_given_up_after_each_deadline_and_then_left(peer: Peer):
    async def hang(stream: Any) -> None:
        await asyncio.Event().wait()

    await peer.serve(read_batch=hang)
    async with connected(peer.channel(timeout_ms=100)) as plugin:
        block = plugin.blocks[0]
        began = time.monotonic()
        with pytest.raises(NoAnswerError):
            await plugin.read_batch(block)
        assert time.monotonic() - began < 0.4
        with pytest.raises(NotConnectedError, match="nothing was heard"):
            await ask(plugin, 5)


async def test_a_write_that_the_gateway_forbids_is_refused(peer: Peer):
    channel = peer.channel()
    async with connected(channel) as plugin:
        peer.genset.writable.clear()
        point = channel.find("A", 1)
        assert point is not None
        with pytest.raises(RefusedError, match="PERMISSION_DENIED: setpoint is not writable"):
            await plugin.write_point(plugin.prepare_write(PointKind("A"), point, 5))
        assert peer.gateway.writes == []


# How it connects.


async def test_nobody_there_a_stranger_and_a_missing_token_are_said(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GATEWAY_TOKEN", raising=False)
    with pytest.raises(NotConnectedError, match="neither GATEWAY_TOKEN nor GATEWAY_TOKEN_FILE"):
        async with connected(peer.channel(token_env="GATEWAY_TOKEN")):  # noqa: S106 - a name
            pass
    peer.gateway.token = "right"  # noqa: S105
    with pytest.raises(NotConnectedError, match="UNAUTHENTICATED: the token is not accepted"):
        async with connected(peer.channel()):
            pass
    await peer.stop()
    with pytest.raises(NotConnectedError, match="refused"):
        async with connected(peer.channel()):
            pass
    plain = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", peer.port)
    with pytest.raises(NotConnectedError):
        async with connected(peer.channel()):
            pass
    plain.close()
    await plain.wait_closed()


async def test_tls_both_ways_with_a_token_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: Peer):
    await peer.stop()
    authority = make_authority(tmp_path, "authority")
    served, own = make_certificate(authority, "gateway"), make_certificate(authority, "comsrv")
    peer.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    peer.tls.load_cert_chain(served, served.with_suffix(".key"))
    peer.tls.load_verify_locations(tmp_path / "authority.pem")
    peer.tls.verify_mode = ssl.CERT_REQUIRED
    peer.tls.set_alpn_protocols(["h2"])
    peer.gateway.token = "secret"  # noqa: S105
    await peer.start()
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("GATEWAY_TOKEN_FILE", str(tmp_path / "token"))
    ca, mine = str(tmp_path / "authority.pem"), {"certificate_file": str(own), "key_file": str(own.with_suffix(".key"))}
    whole = {"token_env": "GATEWAY_TOKEN", "timeout_ms": 2000}
    async with connected(peer.channel(tls={"ca_file": ca, **mine}, **whole)) as plugin:
        assert (await reading(plugin))["T:1"] == (23.5, "")
    for tls in ({"ca_file": ca}, {**mine}, {"ca_file": ca, "server_name": "somebody.else", **mine}):
        with pytest.raises(NotConnectedError):
            async with connected(peer.channel(tls=tls, **whole)):
                pass


def test_what_is_wrong_with_a_channel_is_said_before_it_runs(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    def problems(channel: Channel) -> str:
        return "; ".join(f"{problem.where}: {problem.message}" for problem in check_channel(channel, 6000))

    assert "token_env needs tls" in problems(peer.channel(host="gateway.example", token_env="TOKEN"))  # noqa: S106 - a name
    assert "no such file" in problems(peer.channel(tls={"ca_file": "/nowhere.pem"}))
    document = definition(peer.channel())
    document["points"]["T"][0] |= {"limits": "clamp", "min": 0}
    del document["points"]["S"][0]["mapping"]["name"]
    found = problems(from_definition(document))
    assert "limits: what a gateway gives is shown as it is" in found
    assert "name: is required" in found
    monkeypatch.setattr("services.comsrv.plugins.grpc.plugin.find_spec", lambda _: None)
    assert "needs grpcio and protobuf: pip install 'voltageems[grpc]'" in problems(peer.channel())


# What is pushed.


async def quiet(site: Site, peer: Peer, **changes: Any) -> Runner:
    """Run a channel that polls seldom, and wait until the stream stands."""
    document = definition(peer.channel()) | {"polling": {"interval_ms": 60_000}} | changes
    runner = await site.run(from_definition(document))
    await site.becomes("T:1", "23.500000")
    await streaming(peer)
    return runner


async def streaming(peer: Peer) -> None:
    async def stands() -> bool:
        return bool(peer.gateway.streams)

    await wait_until(stands, "the stream stands")


async def changed_at(site: Site, kind: str, point: str) -> int:
    return (await site.functions.image(1001, kind)).changed_at_ms[point]


async def test_what_is_pushed_has_the_device_s_own_time_and_reaches_rules_and_history_in_order(site: Site, peer: Peer):
    rule = {"name": "trip", "conditions": [{"source": "comsrv:1001:S:1", "operator": "==", "value": 0}], "actions": []}
    await site.redis.call("rule_upsert", "trip", rule)
    await quiet(site, peer)
    now = int(time.time() * 1000)
    for ago, value in ((-5, 0), (-3, 1), (-4, 0)):
        await peer.gateway.change("genset", "breaker", value, at_ms=now + 1000 + ago)
    await site.becomes("S:1", "1.000000")

    async def settled() -> bool:
        return await changed_at(site, "S", "1") == now + 997

    await wait_until(settled, "the newest, by the device's time, is in the image")
    stats = await site.redis.read_json("rule_stats", "trip")
    assert (stats["count"], stats["active"]) == (1, False)
    found = (await site.functions.ledger())[:2]
    assert ledger.balance(*found)["balanced"], found


async def test_a_poll_that_finds_what_was_pushed_says_nothing_new_and_one_that_does_not_corrects_it(
    site: Site, peer: Peer
):
    runner = await quiet(site, peer, polling={"interval_ms": 100})
    await peer.gateway.change("genset", "power", 30)
    await site.becomes("T:1", "30.000000")
    assert runner.poller is not None
    statistics, changed = runner.poller.statistics, await changed_at(site, "T", "1")
    polls = statistics.polls

    async def polled() -> bool:
        return statistics.polls >= polls + 3

    await wait_until(polled, "three polls")
    assert await changed_at(site, "T", "1") == changed
    # The device changed, and nobody pushed it.
    peer.genset.values["power"] = 31
    await site.becomes("T:1", "31.000000")


async def test_a_bad_event_keeps_the_last_value(site: Site, peer: Peer):
    await quiet(site, peer)
    await peer.gateway.change("genset", "power", 0, quality="bad:sensor")
    await site.becomes("T:1", "bad:sensor")
    image = await site.functions.image(1001, "T")
    assert image.values["1"] == "23.500000"


async def test_after_a_lost_connection_the_stream_goes_on_behind_what_redis_has(site: Site, peer: Peer):
    await quiet(site, peer)
    await peer.gateway.change("genset", "power", 24)
    await site.becomes("T:1", "24.000000")
    await peer.stop()
    began = int(time.time() * 1000)
    for number in range(200):
        await peer.gateway.change("genset", "power", 100 + number, at_ms=began + number)
    before = (await site.functions.ledger())[0]["stored"]
    await peer.start()
    await site.becomes("T:1", "299.000000")

    async def all_stored() -> bool:
        return (await site.functions.ledger())[0]["stored"] - before >= 200

    await wait_until(all_stored, "every event that came meanwhile is stored")
    assert ledger.balance(*(await site.functions.ledger())[:2])["balanced"]


async def test_while_redis_is_slow_the_gateway_is_held_back_and_nothing_is_lost(site: Site, peer: Peer):
    runner = await quiet(site, peer)
    assert runner.uplink is not None
    taking = asyncio.Event()
    through = runner.uplink.lease.functions.ingest

    async def slow(*args: Any) -> bool:
        await taking.wait()
        return await through(*args)

    runner.uplink.lease.functions.ingest = slow  # type: ignore[method-assign]
    began, events = int(time.time() * 1000), 20_000
    for number in range(events):
        await peer.gateway.change("genset", "power", number, at_ms=began)
        if number % 500 == 0:
            await asyncio.sleep(0)
    assert len(runner.uplink._pushed) <= 1
    taking.set()
    uplink = runner.uplink

    async def caught_up() -> bool:
        return uplink.events >= 10_000 and await site.value("T:1") == f"{events - 1}.000000"

    # The gateway keeps 10,000; what it had to forget is its own bound, not ours.
    await wait_until(caught_up, "what the gateway kept is in Redis", 20)
    assert ledger.balance(*(await site.functions.ledger())[:2])["balanced"]


async def test_other_points_are_listened_to_without_a_new_connection(site: Site, peer: Peer):
    runner = await quiet(site, peer)
    poller = runner.poller
    assert poller is not None
    connections = poller.statistics.connections
    document = definition(runner.channel)
    document["points"]["T"].append(
        {"id": 2, "name": "start", "data_type": "float64", "mapping": {"device": "genset", "name": "start"}}
    )
    await site.functions.upsert(document)
    assert await runner.change(from_definition(document))
    await site.becomes("T:2", "0.000000")
    await streaming(peer)
    await peer.gateway.change("genset", "start", 1)
    await site.becomes("T:2", "1.000000")
    assert poller.statistics.connections == connections


async def test_a_gateway_that_pushes_nothing_is_polled(site: Site, peer: Peer):
    async def unimplemented(stream: Any) -> None:
        raise GRPCError(Status.UNIMPLEMENTED)

    await peer.serve(stream=unimplemented)
    await site.run(peer.channel())
    await site.becomes("T:1", "23.500000")
    peer.genset.values["power"] = 25
    await site.becomes("T:1", "25.000000")
    assert (await site.command("A", 10))["state"] == "verified"
    assert peer.gateway.writes[0][2:] == ("setpoint", 20.0)
