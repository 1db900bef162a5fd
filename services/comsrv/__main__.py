"""Run comsrv: `python -m services.comsrv`, or `voltage serve comsrv`."""

from __future__ import annotations

from libs.config import load
from libs.http import run
from services.comsrv.app import NAME, create_app
from services.comsrv.settings import ComsrvSettings


def main() -> None:
    """Load the configuration and serve until told to stop."""
    settings = load(ComsrvSettings, NAME).settings
    run(create_app(settings), settings, NAME)


if __name__ == "__main__":
    main()
