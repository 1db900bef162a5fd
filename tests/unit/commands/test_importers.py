"""Tables of other tools become channels that load, and what can't be taken over is named with line and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libs.config import load
from libs.errors import ConfigurationError, ConflictError, InvalidError, VoltageError
from services.cli import voltage
from services.commands.importers.kepware import parse_address
from services.commands.importers.records import RefusedError
from services.commands.importers.telegraf_settings import duration_ms
from services.commands.importers.toml_lines import sections
from services.commands.importers.writing import flow
from services.comsrv.channel import Channel
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site

VECTORS = Path(__file__).parents[2] / "vectors" / "importers"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(folder))
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path / "data"))
    return folder


def run(file: Path | str, source: str, *options: str, channel: int = 1500) -> dict[str, Any]:
    """Import and return the report; a refusal is raised."""
    arguments = ["points", "import", str(VECTORS / file), "--from", source, "--channel", str(channel), "--json"]
    done = CliRunner().invoke(voltage, [*arguments, *options])
    if isinstance(done.exception, VoltageError):
        raise done.exception
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.output)
    return report


def site(config: Path) -> Channel:
    """Read what was written, as comsrv does."""
    (channel,) = load_site(config, load(ComsrvSettings, "comsrv").settings)
    return channel


def mapping(channel: Channel, kind: str, name: str) -> dict[str, Any]:
    """Return a point's row of the mapping table, without its id."""
    (found,) = [point.mapping for point in channel.points.of(kind) if point.name == name]
    assert found is not None
    return {key: value for key, value in found.items() if value not in {"", None}}


def lost(report: dict[str, Any]) -> dict[tuple[int, str], str]:
    return {(one["line"], one["tag"] or one["what"]): one["reason"] for one in report["lost"]}


def test_kepware_numbers_bits_texts_and_scales(config: Path):
    report = run("kepware.csv", "kepware", "--host", "192.0.2.5", "--unit", "9")
    channel = site(config)
    register = {"slave_id": 9, "function_code": 3}
    assert mapping(channel, "T", "Meter.Voltage") == {
        **register, "register_address": 0, "data_type": "float32", "byte_order": "CDAB",
    }  # fmt: skip
    assert mapping(channel, "T", "Meter.Energy") == {
        "slave_id": 9, "function_code": 4, "register_address": 9, "data_type": "uint64", "byte_order": "CDAB",
        "poll_group": "every_5000ms",
    }  # fmt: skip
    assert mapping(channel, "T", "Pump.Serial") == {
        **register, "register_address": 59, "data_type": "string", "byte_order": "BA", "register_count": 3,
    }  # fmt: skip
    level = next(point for point in channel.points.T if point.name == "Tank.Level")
    assert (level.scale, level.offset, level.min, level.max, level.limits) == (0.00625, -25, 0, 100, "clamp")
    assert next(point.scale for point in channel.points.T if point.name == "Tank.Torque") == -0.1
    assert channel.points.T[0].description == "Phase 1, line to neutral"
    assert channel.polling.interval_ms == 1000
    assert report["tags"] == 12


def test_kepware_a_tag_that_is_written_is_a_point_of_its_own(config: Path):
    run("kepware.csv", "kepware", "--host", "192.0.2.5")
    channel = site(config)
    assert mapping(channel, "S", "Pump.Run")["function_code"] == 1
    assert mapping(channel, "C", "Pump.Run") == {
        "slave_id": 1, "function_code": 5, "register_address": 0, "data_type": "bool",
    }  # fmt: skip
    # Only the bit is written: the rest of the register stays.
    assert mapping(channel, "C", "Pump.Enable") == {
        "slave_id": 1, "function_code": 6, "register_address": 29, "data_type": "bool", "bit_position": 3,
        "read_modify_write": True,
    }  # fmt: skip
    assert [point.name for point in channel.points.A] == ["Tank.Level", "Pump.Name", "Pump.Start"]
    # A text that is written has a number that no telemetry point has.
    assert mapping(channel, "A", "Pump.Name")["function_code"] == 16
    assert channel.points.A[1].id not in {point.id for point in channel.points.T}
    assert "Pump.Start" not in [point.name for point in channel.points.T], "W before an address: never read"


def test_kepware_every_tag_that_is_left_out_is_named_with_its_line():
    report = run("kepware.csv", "kepware", "--host", "192.0.2.5")
    reasons = lost(report)
    assert {place for place in reasons if "." not in place[1]} == {
        (17, "Trend"), (18, "Packed"), (19, "Hex"), (20, "Clock"), (21, "Past"), (22, "Respect Data Type 0"),
    }  # fmt: skip
    assert "only linear" in reasons[8, "Tank.Flow"]
    assert "bits count from 0 to 15" in reasons[13, "Pump.Bit17"]
    assert "ends beyond the last address" in reasons[21, "Past"]
    assert "can't be written" in reasons[6, "Meter.Energy"]
    assert any("first word low" in text for text in report["assumed"])


@pytest.mark.parametrize("text", ["41", "401", "4001", "40001", "400001", "W40001"])
def test_kepware_pads_addresses(text: str):
    assert parse_address(text, 1)[:2] == (3, 0)


@pytest.mark.parametrize("text", ["40000", "465537", "200001", "40001.", "40001.1H", "100001.2", ""])
def test_kepware_refuses_what_is_no_address(text: str):
    with pytest.raises(RefusedError):
        parse_address(text, 1)


def test_kepware_counts_from_what_the_person_says(config: Path, tmp_path: Path):
    file = tmp_path / "tags.csv"
    file.write_text("Tag Name;Address;Data Type\nFlow;40000;Double\nLast;40001.16;Boolean\nFirst;40001.1;\n")
    report = run(file, "kepware", "--host", "h", "--first-address", "0", "--byte-order", "abcd")
    channel = site(config)
    assert mapping(channel, "T", "Flow") | {"byte_order": "ABCD", "register_address": 0} == mapping(
        channel, "T", "Flow"
    )
    # There is a bit 16, so this device counts its bits from 1.
    assert [mapping(channel, "S", name)["bit_position"] for name in ("Last", "First")] == [15, 0]
    assert any("line 3 has a bit 16" in text for text in report["assumed"])


def test_kepware_as_programs_write_it(config: Path, tmp_path: Path):
    report = run("kepware-s7.csv", "kepware", "--host", "h")
    channel = site(config)
    assert [point.name for point in channel.points.T] == ["AI.01_Val", "Speed"]
    assert mapping(channel, "C", "DI.01_Val")["bit_position"] == 3
    assert set(lost(report)) == {(6, "Step7")}
    file = tmp_path / "tags.csv"
    file.write_bytes("Tag Name,Address,Engineering Units\nWärme,300001,°C\n".encode("cp1252"))
    report = run(file, "kepware", "--dry-run", channel=1501)
    assert any("Windows-1252" in text for text in report["assumed"])


def test_neuron_orders_decimals_and_units(config: Path):
    report = run("neuron.csv", "neuron", "--host", "192.0.2.5")
    channel = site(config)
    assert mapping(channel, "T", "voltage") == {
        "slave_id": 1, "function_code": 3, "register_address": 0, "data_type": "float32", "byte_order": "CDAB",
        "poll_group": "every_500ms",
    }  # fmt: skip
    assert mapping(channel, "T", "current")["byte_order"] == "ABCD"
    assert mapping(channel, "T", "temperature")["byte_order"] == "BA"
    assert mapping(channel, "A", "setpoint")["slave_id"] == 2
    assert mapping(channel, "T", "model")["register_count"] == 10
    scales = {point.name: (point.scale, point.offset) for point in channel.points.T}
    assert (scales["current"], scales["temperature"]) == ((0.001, 0), (1, -40))
    assert {point.group for point in channel.points.S} == {"slow"}
    reasons = lost(report)
    assert sorted(line for line, name in reasons if name not in {"voltage", "alarm"}) == list(range(10, 18))
    assert "documentation means L and its source H" in reasons[10, "label"]
    assert "--first-address 0" in reasons[17, "zero"]


def test_neuron_takes_what_a_node_says(config: Path):
    report = run("neuron.json", "neuron")
    channel = site(config)
    assert channel.name == "meter"
    assert channel.parameters == {"host": "192.0.2.7", "port": 1502, "timeout_ms": 3000, "pause_ms": 20, "retries": 2}
    assert channel.polling.interval_ms == 2000
    # address_base 0 and endianess 4 (CDAB) of the node.
    assert mapping(channel, "T", "power") == {
        "slave_id": 3, "function_code": 3, "register_address": 0, "data_type": "float32", "byte_order": "CDAB",
    }  # fmt: skip
    assert [one["line"] for one in report["points"]] == [14, 16, 16]
    assert set(lost(report)) == {(21, "broken")}
    assert report["assumed"] == []


def test_neuron_takes_a_node_of_the_whole_configuration(config: Path):
    with pytest.raises(ConfigurationError, match="say which with --device: meter, pump"):
        run("neuron-config.json", "neuron")
    report = run("neuron-config.json", "neuron", "--device", "meter")
    channel = site(config)
    assert channel.parameters == {"host": "192.0.2.9", "port": 502, "timeout_ms": 3000, "pause_ms": 0, "retries": 2}
    assert (channel.polling.interval_ms, channel.points.T[0].group, channel.points.T[0].offset) == (100, "fast", 1)
    assert mapping(channel, "C", "run")["register_address"] == 0
    assert set(lost(report)) == {(1, "parameter retry_interval: 0"), (14, "fixed")}
    # A node without settings of its own, on a serial line: the person says where it is.
    run("neuron-config.json", "neuron", "--device", "pump", "--host", "192.0.2.8", channel=1501)
    pump = load_site(config, load(ComsrvSettings, "comsrv").settings)[1]
    assert mapping(pump, "T", "flow")["slave_id"] == 2


def test_telegraf_register_style(config: Path):
    report = run("telegraf-register.conf", "telegraf")
    channel = site(config)
    assert channel.protocol == "modbus_rtu"
    assert channel.parameters == {
        "port": "/dev/ttyUSB0", "baud_rate": 19200, "stop_bits": 1, "parity": "even", "timeout_ms": 500,
        "connect_pause_ms": 200,
    }  # fmt: skip
    assert channel.polling.interval_ms == 30_000, "of the agent"
    types = {point.name: (point.mapping or {})["data_type"] for point in channel.points.T}
    # FLOAT32 of this style is a fixed-point number; floats say -IEEE.
    assert types == {"power_factor": "int16", "energy": "uint32", "flow": "float32", "total": "uint64", "low": "int8"}
    assert {one["tag"]: one["line"] for one in report["points"]}["jog"] == 22
    assert set(lost(report)) == {
        (11, "busy_retries = 2"), (30, "torn"), (31, "unscaled"),
        (35, "workarounds.close_connection_after_gather = True"),
    }  # fmt: skip


def test_telegraf_request_style(config: Path):
    report = run("telegraf-request.conf", "telegraf")
    channel = site(config)
    assert channel.protocol == "modbus_rtu_over_tcp"
    assert mapping(channel, "T", "voltage")["byte_order"] == "BA"
    assert mapping(channel, "T", "current")["byte_order"] == "DCBA"
    assert mapping(channel, "S", "ready")["slave_id"] == 2
    assert {point.group for point in channel.points.T} == {"inverter"}
    reasons = lost(report)
    assert {(17, "skipped"), (18, "energy"), (19, "text"), (13, "optimization = shrink")} < set(reasons)


def test_telegraf_metric_style_and_one_of_two_devices(config: Path):
    with pytest.raises(ConfigurationError) as refused:
        run("telegraf-metric.conf", "telegraf")
    assert [problem.where.rpartition(":")[2] for problem in refused.value.problems] == ["2", "10"]
    report = run("telegraf-metric.conf", "telegraf", "--device", "Two")
    channel = site(config)
    assert channel.polling.mode == "single"
    assert mapping(channel, "T", "firmware")["byte_order"] == "0A"
    assert mapping(channel, "S", "flag")["bit_position"] == 4
    assert set(lost(report)) == {(22, "half")}


def test_telegraf_as_sites_write_it(config: Path, tmp_path: Path):
    report = run("telegraf-site.conf", "telegraf", "--device", "Compressor 1")
    channel = site(config)
    assert channel.polling.interval_ms == 1000
    assert {point.name: point.scale for point in channel.points.T} == {"Total power": 1, "Temperature": 0.1}
    assert set(lost(report)) == {(9, "name_prefix = one_")}
    file = tmp_path / "telegraf.conf"
    request = '[[inputs.modbus.request]]\nregister = "coil"\nfields = [{address = 1, name = "run"}]\n'
    tags = '[[inputs.modbus.request.tags]]\nmachine = "a"\n'
    file.write_text(f'[[inputs.modbus]]\ncontroller = "tcp://h:502"\nconfiguration_type = "request"\n{request}{tags}')
    assert "tags machine=a" in {one["what"] for one in run(file, "telegraf", channel=1501)["lost"]}


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing(config: Path):
    assert run("neuron.json", "neuron", "--dry-run")["written"] is None
    assert run("kepware.csv", "kepware", "--dry-run")["tags"] == 12, "a dry run needs no host"
    assert list(config.iterdir()) == []
    run("neuron.json", "neuron")
    before = {path: path.read_bytes() for path in config.rglob("*") if path.is_file()}
    with pytest.raises(ConflictError, match="channel 1500 is taken"):
        run("kepware.csv", "kepware", "--host", "h")
    run("kepware.csv", "kepware", "--host", "h", channel=1501)
    (config / "channels" / "1501").rename(config / "moved")
    with pytest.raises(ConflictError, match="stands in"):
        run("kepware.csv", "kepware", "--host", "h", channel=1501)
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "comsrv.yaml")


def test_a_write_that_fails_leaves_nothing(config: Path):
    (config / "channels").write_text("in the way")
    (config / "comsrv.yaml").write_text("renew_ms: 500\n")
    with pytest.raises(ConfigurationError, match="can't be written"):
        run("neuron.json", "neuron")
    assert sorted(path.name for path in config.iterdir()) == ["channels", "comsrv.yaml"]
    assert (config / "comsrv.yaml").read_text() == "renew_ms: 500\n"


@pytest.mark.parametrize(
    ("source", "text", "options", "wanted"),
    [
        ("kepware", "Tag Nam,Address,Adress\na,b,c", (), ["column 'tag nam'; did", "'tag name' is missing"]),
        ("kepware", "Tag Name,Address\nA,400001\n", (), ["give --host"]),
        ("kepware", "Tag Name,Address\nA,900001\nB,x\n", ("--host", "h"), [":2: A: ", ":3: B: ", "nothing is written"]),
        ("neuron", "name,address,type\na,1!400001,INT16\n", (), [":1: column 'attribute' is missing"]),
        ("neuron", '{"nodes": [\n  {"name" 1}\n]}', (), [":2: is no JSON"]),
        ("neuron", "[" * 100_000, (), [":1: is no JSON"]),
        ("neuron", '{"nodes": []}', (), ["has no Modbus node"]),
        ("neuron", "PK\x03\x04", (), ["save the sheet as CSV"]),
        ("telegraf", '[[inputs.modbus]]\nname = "a\n', (), [":2: is no TOML"]),
        ("telegraf", "[[inputs.modbus]]\nname = 3\ncoils = 4\n", (), [":2: name: 3 is no text", ":3: coils: "]),
        (
            "telegraf",
            ('[[inputs.modbus]]\ncontroller = "tcp://h:1"\ntransmission_mode = "ASCIIoverTCP"\n'
            'coils = [{name = "a", address = [1]}]\n'),
            (),
            [":3: transmission_mode = ascii", "give --host"],
        ),
        ("telegraf", "[[inputs.cpu]]\n", (), ["has no section [[inputs.modbus]]"]),
        ("telegraf", "[[inputs.modbus]]\n", ("--unit", "3"), ["leave --unit out"]),
        ("telegraf", '[[inputs.modbus]]\nconfiguration_type = "old"\n', (), [":2: configuration_type: 'old'"]),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_all_its_problems(
    tmp_path: Path, config: Path, source: str, text: str, options: tuple[str, ...], wanted: list[str]
):
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises((ConfigurationError, InvalidError)) as refused:
        run(file, source, *options)
    for part in wanted:
        assert part in str(refused.value)
    assert list(config.iterdir()) == []


def test_lines_of_toml_survive_strings_comments_and_nesting():
    text = 'a = """\n[b]\n{"""\n[[c]] # [d]\nx = [ # {\n  {k = "}"},\n\n  {k = [1, 2]}, {}]\ny = 1\n[c.z]\nw = \'#\'\n'
    found = sections(text)
    assert [(one.name, one.line) for one in found] == [("", 1), ("c", 4), ("c.z", 10)]
    assert (found[1].elements, found[1].keys) == ({"x": [6, 8, 8]}, {"x": 5, "y": 9})
    assert found[2].of("w") == 11


def test_durations_and_texts_of_yaml():
    assert [duration_ms(text) for text in ("1s", "250ms", "1m30s", "10", 2)] == [1000, 250, 90_000, None, 2000]
    assert flow({"name": "no", "host": "::1", "on": "a b: c"}) == '{name: "no", host: "::1", on: "a b: c"}'
