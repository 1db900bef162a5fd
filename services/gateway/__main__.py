"""Run the gateway: `python -m services.gateway`, or `voltage serve gateway`."""

from __future__ import annotations

from libs.config import load
from libs.http import run
from services.gateway.app import NAME, create_app
from services.gateway.settings import GatewaySettings


def main() -> None:
    """Load the configuration and serve until told to stop."""
    settings = load(GatewaySettings, NAME).settings
    run(create_app(settings), settings, NAME)


if __name__ == "__main__":
    main()
