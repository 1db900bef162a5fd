"""Run hissrv: `python -m services.hissrv`, or `voltage serve hissrv`."""

from __future__ import annotations

from libs.http import main
from services.hissrv.app import NAME, create_app
from services.hissrv.settings import HissrvSettings

if __name__ == "__main__":
    main(NAME, HissrvSettings, create_app)
