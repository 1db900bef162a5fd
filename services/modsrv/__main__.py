"""Run modsrv: `python -m services.modsrv`, or `voltage serve modsrv`."""

from __future__ import annotations

from libs.http import main
from services.modsrv.app import NAME, create_app
from services.modsrv.settings import ModsrvSettings

if __name__ == "__main__":
    main(NAME, ModsrvSettings, create_app)
