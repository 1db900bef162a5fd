"""Run hissrv: `python -m services.hissrv`, or `voltage serve hissrv`."""

from __future__ import annotations

from libs.config import load
from libs.http import run
from services.hissrv.app import NAME, create_app
from services.hissrv.settings import HissrvSettings


def main() -> None:
    """Load the configuration and serve until told to stop."""
    settings = load(HissrvSettings, NAME).settings
    run(create_app(settings), settings, NAME)


if __name__ == "__main__":
    main()
