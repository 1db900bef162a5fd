"""`voltage modbus` and `voltage points sheet`: a device looked into, a channel signed off."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyModbusTCP.server import DataBank, ModbusServer

from tests.support.processes import Site
from tests.support.servers import free_port

METER = [230.41, 229.87, 231.02, 12.3, -4821.5, 49.98]


@pytest.fixture
def meter() -> Iterator[tuple[int, DataBank]]:
    """Give the port and the registers of a meter that no channel polls; floats with the low word first."""
    port, bank = free_port(), DataBank(h_regs_size=200, i_regs_size=200, coils_size=200, d_inputs_size=200)
    words = [word for value in METER for word in reversed(struct.unpack(">HH", struct.pack(">f", value)))]
    bank.set_holding_registers(100, words)
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=bank)
    server.start()
    yield port, bank
    server.stop()


def test_a_map_nobody_knows_is_read(tmp_path: Path, meter: tuple[int, DataBank]):
    """Without a site: directly, the plausible types and orders first, and the readable addresses."""
    port, bank = meter
    site = Site(tmp_path)
    device = ("--host", "127.0.0.1", "--port", str(port))
    lines = site.voltage("modbus", "read", *device, "100", "12", "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [(one["type"], one["order"]) for one in found] == [("float32", "CDAB")] * len(METER)
    assert [one["values"][0] for one in found] == pytest.approx(METER)
    shown = site.voltage("modbus", "read", *device, "100", "2").stdout
    assert "CDAB 230.41" in shown
    scan = site.voltage("modbus", "scan", *device, "--addresses", "150-260", "--tables", "holding,coils", "--step", "1")
    assert scan.stdout.splitlines() == ["unit 1 holding: 150-199", "unit 1 coils: 150-199"]
    written = site.voltage("modbus", "write", *device, "--yes", "--type", "float32", "--order", "CDAB", "150", "-1.5")
    assert written.stdout == "written and read back: 0000 BFC0\n"
    assert bank.get_holding_registers(150, 2) == [0x0000, 0xBFC0]
    wrong = site.voltage("modbus", "write", *device, "--yes", "--type", "uint16", "150", "70000")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "voltage: 70000 is outside uint16 (0 to 65535)\n",
    )


def test_a_device_that_a_channel_polls_is_asked_through_its_link(site: Site):
    """By the channel's number, and by its address; what its points write takes a command."""
    through = site.voltage("modbus", "read", "--host", "127.0.0.1", "--port", "base+22", "2", "1")
    assert through.stderr == "channel 1003 polls this device; going through its link\n"
    assert through.returncode == 0
    refused = site.voltage("modbus", "write", "--channel", "1003", "--yes", "100", "5")
    assert refused.stderr == "voltage: A:1 of channel 1003 writes there; send it a command\n"
    absent = site.voltage("modbus", "read", "--channel", "1003", "900")
    assert "exception 2, illegal data address" in absent.stderr


def test_a_commissioning_sheet_says_what_was_seen(site: Site, tmp_path: Path):
    expected = tmp_path / "expected.csv"
    expected.write_text("type,point_id,expected,tolerance\nT,9,50,1\nS,1,0,\n")
    made = site.voltage("points", "sheet", "1001", "--by", "=anna()", "--expected", str(expected))
    rows = {row["ref"]: row for row in csv.DictReader(io.StringIO(made.stdout))}
    assert (rows["comsrv:1001:T:9"]["ok"], rows["comsrv:1001:T:9"]["by"]) == ("yes", "'=anna()")
    assert (rows["comsrv:1001:S:1"]["seen"], rows["comsrv:1001:S:1"]["ok"]) == ("1", "no")
    assert made.returncode == 1
    assert made.stderr.endswith("2 checked, not as expected: comsrv:1001:S:1\n")
    expected.write_text("point_id,expected\n77,1\n")
    unknown = site.voltage("points", "sheet", "1001", "--by", "anna", "--expected", str(expected))
    assert (unknown.returncode, unknown.stderr.strip()) == (78, f"voltage: {expected}: channel 1001 has no point T:77")
