"""Run alarmsrv: `python -m services.alarmsrv`, or `voltage serve alarmsrv`."""

from __future__ import annotations

from libs.http import main
from services.alarmsrv.app import NAME, create_app
from services.alarmsrv.settings import AlarmsrvSettings

if __name__ == "__main__":
    main(NAME, AlarmsrvSettings, create_app)
