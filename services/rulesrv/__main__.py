"""Run rulesrv: `python -m services.rulesrv`, or `voltage serve rulesrv`."""

from __future__ import annotations

from libs.http import main
from services.rulesrv.app import NAME, create_app
from services.rulesrv.settings import RulesrvSettings

if __name__ == "__main__":
    main(NAME, RulesrvSettings, create_app)
