"""modbus_tls against a server of the standard library's ssl: who is believed, and what is said otherwise."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.comsrv.channel import Channel
from services.comsrv.contract import ComBase, NotConnectedError
from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.modbus.tls import ModbusTls
from services.comsrv.tables import check_channel
from tests.integration.comsrv.device import Device
from tests.integration.comsrv.test_modbus_tcp import point, row
from tests.support.brokers import make_authority, make_certificate


def server_side(folder: Path, *, clients_from: Path | None = None) -> ssl.SSLContext:
    """Return a server's context; with `clients_from` it wants a certificate of that authority."""
    certificate = make_certificate(make_authority(folder, "authority"), "device")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if clients_from is not None:
        context.load_verify_locations(clients_from)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def channel(port: int, points: dict[str, list[dict[str, Any]]], **parameters: Any) -> Channel:
    document = {
        "id": 1003,
        "name": "meter",
        "protocol": "modbus_tls",
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 2000, **parameters},
        "points": points,
    }
    return Channel.model_validate(document)


class TestModbusTls(Conformance):
    """Conformance."""

    protocol = "modbus_tls"

    @pytest.fixture(autouse=True)
    async def _device(self, tmp_path: Path) -> AsyncIterator[None]:
        self.folder = tmp_path
        self.device = Device(tls=server_side(tmp_path))
        self.device.set_registers(40, *struct.unpack(">HH", struct.pack(">f", 23.5)))
        self.device.set_registers(300, 0)
        self.device.set_bits(16, True, table=2)
        self.device.set_bits(8, False)
        await self.device.start()
        yield
        await self.device.stop()

    async def channel(self) -> Channel:
        return channel(
            self.device.port,
            {
                "T": [point(1, row(3, 40, "float32"))],
                "S": [point(1, row(2, 16, "bool"))],
                "C": [point(1, row(5, 8, "bool"))],
                "A": [point(1, row(6, 300, "int16"), scale=0.1, min=-100, max=100)],
            },
            ca_file=str(self.folder / "authority.pem"),
        )

    async def lose_device(self) -> None:
        await self.device.stop()

    async def return_device(self) -> None:
        await self.device.start()


async def connected(port: int, **parameters: Any) -> ComBase:
    """Connect a channel of one point, or raise NotConnectedError."""
    plugin = ModbusTls()
    declared = channel(port, {"T": [point(1, row(3, 0, "uint16"))]}, **parameters)
    await plugin.initialize(declared, port_base=6000)
    try:
        await plugin.connect()
    except NotConnectedError:
        await plugin.close()
        raise
    return plugin


async def test_a_device_that_an_unknown_authority_signed_is_not_believed(tmp_path: Path):
    device = Device(tls=server_side(tmp_path / "device"))
    await device.start()
    other = make_authority(tmp_path / "other", "other")
    with pytest.raises(NotConnectedError, match="certificate verify failed"):
        await connected(device.port, ca_file=str(other))
    assert device.requests == []
    await device.stop()


async def test_the_name_in_the_certificate_counts(tmp_path: Path):
    device = Device(tls=server_side(tmp_path))
    device.set_registers(0, 7)
    await device.start()
    authority = str(tmp_path / "authority.pem")
    with pytest.raises(NotConnectedError, match="certificate is not valid for"):
        await connected(device.port, ca_file=authority, server_name="meter.example")
    plugin = await connected(device.port, ca_file=authority, server_name="localhost")
    assert (await plugin.read_batch(plugin.blocks[0])).values.tolist() == [7.0]
    await plugin.close()
    await device.stop()


async def test_a_device_that_asks_for_a_certificate_gets_ours(tmp_path: Path):
    plant = make_authority(tmp_path / "plant", "plant")
    device = Device(tls=server_side(tmp_path, clients_from=plant))
    device.set_registers(0, 7)
    await device.start()
    ours = make_certificate(plant, "voltage")
    plugin = await connected(
        device.port,
        ca_file=str(tmp_path / "authority.pem"),
        certificate_file=str(ours),
        key_file=str(ours.with_suffix(".key")),
    )
    assert (await plugin.read_batch(plugin.blocks[0])).values.tolist() == [7.0]
    await plugin.close()
    await device.stop()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ca_file": "ca.pem"}, "parameters.ca_file: ca.pem must be an absolute path"),
        ({"ca_file": "/nowhere/ca.pem"}, "parameters.ca_file: /nowhere/ca.pem: no such file"),
        ({"certificate_file": "{here}"}, "certificate_file and key_file go together"),
        ({"ca_file": "{here}"}, "holds no certificates"),
        ({"minimum_version": "1.0"}, "parameters.minimum_version"),
    ],
)
def test_wrong_files_are_refused_with_the_field(tmp_path: Path, parameters: dict[str, str], message: str):
    here = tmp_path / "empty.pem"
    here.write_text("")
    given = {name: value.format(here=here) for name, value in parameters.items()}
    problems = check_channel(channel(802, {"T": [point(1, row(3, 0, "uint16"))]}, **given), 6000)
    assert any(message in str(problem) for problem in problems), problems
