"""What comsrv's routes find in the application."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from services.comsrv.channels import Channels
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.ledger import Counted
from services.comsrv.serving.server import ModbusServer

CHANNELS: Final = web.AppKey("channels", Channels)
FUNCTIONS: Final = web.AppKey("functions", ComsrvFunctions)
# The ledger as it was at the start, and when that was.
STARTED: Final = web.AppKey("started", tuple[Counted, int])
MODBUS_SERVER: Final = web.AppKey("modbus_server", ModbusServer)
