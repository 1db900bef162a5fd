"""Point tables: what is read, and how every problem is named at once."""
# ruff: noqa: E501 - a table of long lines reads better whole

from pathlib import Path
from typing import Any

import pytest

from libs.errors import ConfigurationError
from services.comsrv.channel import Channel
from services.comsrv.plugins.modbus.mapping import wire_address
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site

MODBUS = {"id": 1001, "name": "Feeder", "protocol": "modbus_tcp", "parameters": {"host": "127.0.0.1", "port": 502}}
POINTS = "point_id,signal_name,data_type,scale,offset,reverse,unit,description\n"
MAPPINGS = "point_id,slave_id,function_code,register_address,data_type,byte_order,bit_position\n"
GOOD = {
    "telemetry.csv": POINTS + "7,Feeder current L1,float32,0.01,0,,A,\n",
    "mapping/telemetry_mapping.csv": MAPPINGS + "7,1,3,40,float32,CDAB,\n",
    "signal.csv": POINTS + "3,Breaker closed,bool,,,true,,\n4,Bit,bool,,,,,\n",
    "mapping/signal_mapping.csv": MAPPINGS + "3,1,2,16,bool,,\n4,1,3,100,bool,AB,9\n",
}


def site(folder: Path, files: dict[str, str | bytes], channel: dict[str, Any] | None = None) -> Channel:
    """Write tables and read them back as a channel."""
    for name, text in files.items():
        path = folder / "channels" / "1001" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    settings = ComsrvSettings.model_validate({"channels": [channel or MODBUS]})
    return load_site(folder, settings)[0]


def problems(folder: Path, files: dict[str, str | bytes], channel: dict[str, Any] | None = None) -> list[str]:
    """Return the problems of a site, without the folder."""
    with pytest.raises(ConfigurationError) as caught:
        site(folder, files, channel)
    return [str(problem).replace(f"{folder}/channels/1001/", "") for problem in caught.value.problems]


def test_the_examples_of_the_design_are_read(tmp_path: Path):
    channel = site(tmp_path, GOOD)
    current = channel.find("T", 7)
    assert current is not None
    assert (current.scale, current.unit) == (0.01, "A")
    assert current.mapping is not None
    assert current.mapping["byte_order"] == "CDAB"
    breaker = channel.find("S", 3)
    assert breaker is not None
    assert breaker.reverse


def test_mark_semicolon_decimal_comma_and_any_column_order(tmp_path: Path):
    """What a spreadsheet of another country writes means the same."""
    table = "\ufeffsignal_name;scale;point_id;data_type\r\nStrom;0,01;7;float32\r\n\r\n"
    channel = site(tmp_path, {**GOOD, "telemetry.csv": table})
    current = channel.find("T", 7)
    assert current is not None
    assert (current.name, current.scale) == ("Strom", 0.01)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"telemetry.csv": "point_id,signal_nam,data_type\n7,x,float32\n"},
            ["telemetry.csv:1: unknown column 'signal_nam'; did you mean signal_name?",
             "telemetry.csv:1: column 'signal_name' is missing"],
        ),
        (
            {
                "telemetry.csv": "point_id,signal_name,data_type,scael\n7,a,float32,1\n7,b,float32,1\n",
                "mapping/telemetry_mapping.csv": MAPPINGS + "7,1,3,40,float32,,\n8,1,3,42,float32,,\n",
            },
            ["telemetry.csv:1: unknown column 'scael'; did you mean scale?",
             "telemetry.csv:3: point 7 stands twice; first in line 2",
             "mapping/telemetry_mapping.csv:3: mapping of point 8, which is not in telemetry.csv"],
        ),
        ({"telemetry.csv": POINTS + "7,a,float32\n7,b,float32\n"}, ["telemetry.csv:3: point 7 stands twice; first in line 2"]),
        (
            {"mapping/telemetry_mapping.csv": MAPPINGS + "7,1,3,40,float32,,\n8,1,3,42,float32,,\n"},
            ["mapping/telemetry_mapping.csv:3: mapping of point 8, which is not in telemetry.csv"],
        ),
        (
            {"telemetry.csv": POINTS + "7,a,float32\n8,b,float32\n"},
            ["telemetry.csv:3: point 8 has no row in telemetry_mapping.csv"],
        ),
        (
            {"mapping/telemetry_mapping.csv": MAPPINGS + "7,1,3,65535,float32,,\n"},
            ["mapping/telemetry_mapping.csv:2: register_address: float32 at 65535 ends beyond the last address 65535"],
        ),
        (
            {"mapping/telemetry_mapping.csv": MAPPINGS + "7,1,3,65536,int16,,\n"},
            ["mapping/telemetry_mapping.csv:2: register_address: 65536 is beyond the last address 65535"],
        ),
        ({"telemetry.csv": POINTS + "7,a,float32,nan\n"}, ["telemetry.csv:2: scale: 'nan' is not finite"]),
        ({"telemetry.csv": POINTS + "7,a,float32,0\n"}, ["telemetry.csv:2: scale must not be 0"]),
        ({"telemetry.csv": POINTS + '7,a,float32,"1,500"\n'}, ["telemetry.csv:2: scale: '1,500' is ambiguous; write 1500 or 1.500"]),
        ({"telemetry.csv": POINTS + "0x7,a,flaot32\n"}, [
            "telemetry.csv:2: point_id: '0x7' is no whole number",
            "telemetry.csv:2: data_type: unknown type 'flaot32'; did you mean float32?",
        ]),
        ({"telemetry.csv": POINTS + "7,a,bool\n"}, [
            "telemetry.csv:2: data_type: telemetry points are number or text, not bool",
            "mapping/telemetry_mapping.csv:2: data_type: float32 on the wire does not agree with bool in the point table",
        ]),
        (
            {"mapping/telemetry_mapping.csv": MAPPINGS + "7,1,6,40,float32,ABDC,\n"},
            ["mapping/telemetry_mapping.csv:2: function_code: telemetry points are read with 1, 2, 3, 4, not 6",
             "mapping/telemetry_mapping.csv:2: function_code: 6 writes one register, float32 needs 2; use 16"],
        ),
        (
            {"mapping/telemetry_mapping.csv": MAPPINGS + "7,1,3,40,float32,AB,\n"},
            ["mapping/telemetry_mapping.csv:2: byte_order: float32 takes ABCD, CDAB, BADC, DCBA, not AB"],
        ),
        (
            {"mapping/telemetry_mapping.csv": MAPPINGS + "7,1,7,40,float32,,\n"},
            ["mapping/telemetry_mapping.csv:2: function_code: 7 is none of 1, 2, 3, 4, 5, 6, 15, 16, 22, 23"],
        ),
        ({"telemtry.csv": POINTS}, ["telemtry.csv: is no table of a channel; did you mean telemetry.csv?"]),
        ({"telemetry.csv": b"point_id,signal_name,data_type\n7,\xfcber,float32\n"}, [
            "telemetry.csv:2: is not UTF-8; save the table as CSV UTF-8"]),
        ({"telemetry.csv": ""}, ["telemetry.csv:1: is empty; the first line names the columns: point_id,signal_name,data_type"]),
        ({"telemetry.csv": POINTS + "7,a,float32,1,0,,A,one,two\n"}, [
            "telemetry.csv:2: 9 cells under 8 columns; quote a text with a ,"]),
        ({"adjustment.csv": "point_id,signal_name,data_type,min,max\n1,P,float32,10,-10\n"}, [
            "adjustment.csv:2: min 10 is greater than max -10"]),
    ],
)  # fmt: skip
def test_each_problem_has_file_and_line(tmp_path: Path, changed: dict[str, str | bytes], expected: list[str]):
    found = problems(tmp_path, {**GOOD, **changed})
    assert found == expected


def test_all_problems_of_all_tables_come_at_once(tmp_path: Path):
    files = {
        **GOOD,
        "telemetry.csv": POINTS + "7,a,float32,inf\n8,,float32\n",
        "mapping/signal_mapping.csv": MAPPINGS + "3,300,2,16,bool,,\n4,1,3,100,bool,AB,16\n",
    }
    found = "\n".join(problems(tmp_path, files))
    for place in ("telemetry.csv:2: scale", "telemetry.csv:3: signal_name", "signal_mapping.csv:2: slave_id",
                  "signal_mapping.csv:3: bit_position"):  # fmt: skip
        assert place in found


@pytest.mark.parametrize(
    ("addressing", "address", "code", "wire"),
    [("one", 41, 3, 40), ("modicon", 40041, 3, 40), ("modicon", 400041, 3, 40), ("modicon", 465536, 3, 65535),
     ("modicon", 30001, 4, 0)],
)  # fmt: skip
def test_addressing(tmp_path: Path, addressing: str, address: int, code: int, wire: int):
    assert wire_address(address, code, addressing) == wire  # type: ignore[arg-type]


def test_an_address_of_another_table_is_refused(tmp_path: Path):
    channel = {**MODBUS, "parameters": {"host": "h", "addressing": "modicon"}}
    files = {key: GOOD[key] for key in ("telemetry.csv", "mapping/telemetry_mapping.csv")}
    files["mapping/telemetry_mapping.csv"] = MAPPINGS + "7,1,3,30041,float32,,\n"
    assert problems(tmp_path, files, channel) == [
        "mapping/telemetry_mapping.csv:2: register_address: 30041 is not in table 4xxxx, which function code 3 uses"
    ]


def test_protocol_and_parameters_are_checked_too(tmp_path: Path):
    assert "did you mean modbus_tcp?" in problems(tmp_path, GOOD, {**MODBUS, "protocol": "modbus_tpc"})[0]
    found = problems(tmp_path, GOOD, {**MODBUS, "parameters": {"hots": "x", "port": "base+x"}})
    assert any("parameters.hots: unknown key; did you mean host?" in line for line in found)


def test_a_value_longer_than_a_request_of_its_unit_is_refused(tmp_path: Path):
    """A string; a scale that does not fit beside its value has a request of its own."""
    files = {
        **GOOD,
        "telemetry.csv": POINTS + "1,Name,string,,,,,\n2,U,float32,,,,,\n",
        "mapping/telemetry_mapping.csv": (
            "point_id,slave_id,function_code,register_address,data_type,register_count,scale_register\n"
            "1,1,3,0,string,60,\n2,2,3,0,int16,,30\n"
        ),
    }
    channel = {**MODBUS, "polling": {"max_registers": 50, "units": {2: {"max_registers": 10}}}}
    found = problems(tmp_path, files, channel)
    assert [problem.partition(": ")[2] for problem in found] == [
        "register_count: 60 registers are read at once, and max_registers of unit 1 is 50",
    ]


@pytest.mark.parametrize(
    ("kind", "data_type", "row", "expected"),
    [
        ("telemetry", "string", "3,string,,,,", "register_count: a string needs the number of its registers"),
        ("telemetry", "string", "3,string,AB,,,126", "register_count: at most 125, not 126"),
        ("telemetry", "float32", "3,uint16,,12,5,", "bit_position: uint16 has bits 0 to 15"),
        ("telemetry", "float32", "3,float32,,0,5,", "bit_position: float32 has no bits; bool, int16, uint16"),
        ("telemetry", "float32", "3,int8,AB,,,", "byte_order: int8 takes 0A, A0, not AB"),
        ("telemetry", "float32", "3,int64,ABDC,,,", "byte_order: int64 takes ABCDEFGH, GHEFCDAB"),
        ("telemetry", "float32", "3,string,,,,4", "data_type: string on the wire does not agree with float32"),
        ("signal", "double_point", "3,double_point,,15,,", "bit_position: double_point has bits 0 to 15"),
        ("adjustment", "float32", "16,uint8,A0,,,", "use function code 22 (mask write) or read_modify_write"),
        ("adjustment", "float32", "22,uint32,,4,4,", "function_code: 22 writes one register, uint32 needs 2"),
        ("control", "double_point", "5,double_point,,,,", "function_code: 5 writes one bit, a double point has two"),
    ],
)
def test_what_a_type_can_not_be_is_said(tmp_path: Path, kind: str, data_type: str, row: str, expected: str):
    """Of the newer types; each names its column."""
    header = (
        "point_id,slave_id,register_address,function_code,data_type,byte_order,bit_position,bit_count,register_count\n"
    )
    files = {
        f"{kind}.csv": f"point_id,signal_name,data_type\n1,x,{data_type}\n",
        f"mapping/{kind}_mapping.csv": f"{header}1,1,0,{row}\n",
    }
    found = problems(tmp_path, files)
    assert len(found) == 1
    assert found[0].startswith(f"mapping/{kind}_mapping.csv:2: ")
    assert expected in found[0]


def test_a_group_that_is_reported_and_has_no_points_is_a_slip(tmp_path: Path):
    table = "point_id,signal_name,data_type,group\n7,Power,float32,power\n"
    channel = {**MODBUS, "reporting": {"groups": {"pwoer": {"deadband": 1}}}}
    assert problems(tmp_path, {**GOOD, "telemetry.csv": table}, channel) == [
        "comsrv.yaml channels[0]: reporting.groups.pwoer: no point has the group 'pwoer'; did you mean power?"
    ]
