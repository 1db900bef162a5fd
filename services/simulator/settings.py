"""config/simulate.yaml as frozen models; every problem at once, with file and line."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from libs.config.yaml_loader import load_yaml
from libs.errors import ConfigurationError, InvalidError, Problem
from libs.services import resolve_port
from libs.validation import Model, nearest, problems_of, worded
from services.simulator.devices import (
    CLASSES,
    Battery,
    BatteryParameters,
    Device,
    Genset,
    GensetParameters,
    GridMeter,
    GridMeterParameters,
    Load,
    LoadParameters,
    PvInverter,
    PvInverterParameters,
)
from services.simulator.registers import Register
from services.simulator.site import Site, random_of

MAX_UNIT_ID: Final = 247
TIME_PATTERN: Final = worded(r"^([01][0-9]|2[0-3]):[0-5][0-9]$", "HH:MM, 00:00 to 23:59")
MINUTE_MS: Final = 60_000


Location = tuple[int | str, ...]
Finding = tuple[Location, str]


def _port(port: int | str) -> int | str:
    try:
        resolve_port(port)
    except InvalidError as error:
        raise ValueError(str(error)) from None
    return port


class DeviceSettings(Model):
    """What every device has, whatever its class."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    port: Annotated[int | str, AfterValidator(_port)]
    unit_id: int = Field(default=1, ge=1, le=MAX_UNIT_ID)
    registers: dict[str, Register] = Field(min_length=1)

    def port_for(self, base: int) -> int:
        """Return the port, counted from the port base where it says `base+N`."""
        return resolve_port(self.port, base)


class GridMeterSettings(DeviceSettings):
    """A grid meter."""

    kind: Literal["grid_meter"] = Field(alias="class")
    parameters: GridMeterParameters = GridMeterParameters()


class PvInverterSettings(DeviceSettings):
    """A photovoltaic inverter."""

    kind: Literal["pv_inverter"] = Field(alias="class")
    parameters: PvInverterParameters


class BatterySettings(DeviceSettings):
    """A battery system."""

    kind: Literal["battery"] = Field(alias="class")
    parameters: BatteryParameters


class GensetSettings(DeviceSettings):
    """A diesel generator."""

    kind: Literal["genset"] = Field(alias="class")
    parameters: GensetParameters


class LoadSettings(DeviceSettings):
    """A load."""

    kind: Literal["load"] = Field(alias="class")
    parameters: LoadParameters


AnyDevice = Annotated[
    GridMeterSettings | PvInverterSettings | BatterySettings | GensetSettings | LoadSettings,
    Field(discriminator="kind"),
]
_DEVICE: Final[TypeAdapter[AnyDevice]] = TypeAdapter(AnyDevice)


class SimulateSettings(Model):
    """The whole file."""

    host: IPv4Address = IPv4Address("127.0.0.1")
    step_ms: int = Field(default=100, ge=10, le=10_000, description="real time of one step")
    acceleration: int = Field(default=1, ge=1, le=3600)
    seed: int = 1
    start_time: Annotated[str, StringConstraints(pattern=TIME_PATTERN)] = "09:00"
    devices: tuple[AnyDevice, ...] = Field(min_length=1)

    @property
    def start_ms(self) -> int:
        """The time of day at the first step, in milliseconds."""
        hours, minutes = self.start_time.split(":")
        return (int(hours) * 60 + int(minutes)) * MINUTE_MS


def load_settings(path: Path) -> SimulateSettings:
    """Read and check the file.

    Raises:
        ConfigurationError: with every problem of the file.
    """
    document = load_yaml(path)
    problems: list[Problem] = []

    def where(location: Location) -> str:
        # pydantic puts the class of a device into the path; the file has no such level.
        return document.where(tuple(part for part in location if part not in CLASSES))

    try:
        settings = SimulateSettings.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, SimulateSettings, where)
    # Checks over the whole still run on the devices that are right by themselves.
    raw = document.data.get("devices") if isinstance(document.data, dict) else None
    devices = list(_valid_devices(raw if isinstance(raw, list) else []))
    for location, message in (*_register_problems(devices), *_clashes(devices)):
        problems.append(Problem(where(location), message))
    if problems:
        raise ConfigurationError(problems)
    return settings


def _valid_devices(raw: list[Any]) -> Iterator[tuple[int, AnyDevice]]:
    for index, item in enumerate(raw):
        try:
            yield index, _DEVICE.validate_python(item)
        except ValidationError:
            continue


def _register_problems(devices: list[tuple[int, AnyDevice]]) -> Iterator[Finding]:
    for index, device in devices:
        at: Location = ("devices", index, "registers")
        known, writable = CLASSES[device.kind].POINTS, CLASSES[device.kind].WRITABLE
        taken: dict[tuple[str, int], str] = {}
        for point, register in device.registers.items():
            if point not in known:
                hint = nearest(point, known) or f"; it has {', '.join(sorted(known))}"
                yield (*at, point), f"a {device.kind} has no point {point!r}{hint}"
            elif register.writable and point not in writable:
                yield (*at, point, "writable"), f"{point} of a {device.kind} can't be written"
            span = range(register.address, register.address + register.words)
            others = [taken.setdefault((register.table, each), point) for each in span]
            clash = next((other for other in others if other != point), None)
            if clash:
                message = f"{point} lies on addresses of {clash} in the {register.table} table"
                yield (*at, point, "address"), message


def _clashes(devices: list[tuple[int, AnyDevice]]) -> Iterator[Finding]:
    names: dict[str, int] = {}
    units: dict[tuple[int | str, int], str] = {}
    meters: list[str] = []
    for index, device in devices:
        if names.setdefault(device.name, index) != index:
            yield ("devices", index, "name"), f"a second device is named {device.name!r}"
        other = units.setdefault((device.port, device.unit_id), device.name)
        if other != device.name:
            message = f"port {device.port} unit {device.unit_id} is {other!r} already"
            yield ("devices", index, "unit_id"), message
        if device.kind == "grid_meter":
            meters.append(device.name)
            if len(meters) > 1:
                message = f"{meters[0]!r} is the grid meter already; a site has one balance"
                yield ("devices", index, "class"), message


def build_device(settings: AnyDevice, seed: int) -> Device:
    """Make the device that the settings describe."""
    name, random = settings.name, random_of(seed, settings.name)
    match settings:
        case GridMeterSettings():
            return GridMeter(name, settings.parameters, random)
        case PvInverterSettings():
            return PvInverter(name, settings.parameters, random)
        case BatterySettings():
            return Battery(name, settings.parameters, random)
        case GensetSettings():
            return Genset(name, settings.parameters, random)
        case LoadSettings():
            return Load(name, settings.parameters, random)


def build_site(settings: SimulateSettings) -> Site:
    """Make the whole site; its devices stand in the order of the file."""
    return Site(
        [build_device(device, settings.seed) for device in settings.devices],
        step_ms=settings.step_ms,
        acceleration=settings.acceleration,
        start_ms=settings.start_ms,
    )
