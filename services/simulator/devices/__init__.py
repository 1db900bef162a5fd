"""The device classes of the simulated site, and the table that names them."""

from services.simulator.devices.base import Device
from services.simulator.devices.battery import Battery, BatteryParameters
from services.simulator.devices.genset import Genset, GensetParameters
from services.simulator.devices.grid_meter import GridMeter, GridMeterParameters
from services.simulator.devices.load import Load, LoadParameters
from services.simulator.devices.pv_inverter import PvInverter, PvInverterParameters

CLASSES: dict[str, type[Device]] = {
    "grid_meter": GridMeter,
    "pv_inverter": PvInverter,
    "battery": Battery,
    "genset": Genset,
    "load": Load,
}

__all__ = [
    "CLASSES",
    "Battery",
    "BatteryParameters",
    "Device",
    "Genset",
    "GensetParameters",
    "GridMeter",
    "GridMeterParameters",
    "Load",
    "LoadParameters",
    "PvInverter",
    "PvInverterParameters",
]
