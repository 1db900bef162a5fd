"""What comsrv's routes find in the application."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from services.comsrv.channels import Channels
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.serving.server import ModbusServer

CHANNELS: Final = web.AppKey("channels", Channels)
FUNCTIONS: Final = web.AppKey("functions", ComsrvFunctions)
MODBUS_SERVER: Final = web.AppKey("modbus_server", ModbusServer)
