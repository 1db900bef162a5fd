"""Run netsrv: `python -m services.netsrv`, or `voltage serve netsrv`."""

from __future__ import annotations

from libs.http import main
from services.netsrv.app import NAME, create_app
from services.netsrv.settings import NetsrvSettings

if __name__ == "__main__":
    main(NAME, NetsrvSettings, create_app)
