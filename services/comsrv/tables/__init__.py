"""Point tables: CSV in, frozen channels out, every problem at once. Start at `load_site`."""

from __future__ import annotations

from services.comsrv.tables.site import check_channel, check_link, load_site

__all__ = ["check_channel", "check_link", "load_site"]
