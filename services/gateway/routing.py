"""Which service owns which paths: the first step after /api/ decides."""

from __future__ import annotations

from typing import Final

OWNERS: Final[dict[str, str]] = {
    "channels": "comsrv",
    "protocols": "comsrv",
    "commands": "comsrv",
    "ledger": "comsrv",
    "modbus-server": "comsrv",
    "templates": "modsrv",
    "models": "modsrv",
    "reverse": "modsrv",
    "alarms": "alarmsrv",
    "alarm-definitions": "alarmsrv",
    "alarm-routes": "alarmsrv",
    "rules": "rulesrv",
    "calendars": "rulesrv",
    "history": "hissrv",
    "jobs": "hissrv",
    "replays": "hissrv",
    "networks": "netsrv",
    "routes": "netsrv",
}
