"""Settings of modsrv: config/modsrv.yaml, `VOLTAGE_...`, `MODSRV_...`."""

from __future__ import annotations

from libs.config import Settings


class ModsrvSettings(Settings):
    """All settings of modsrv: those every service has."""
