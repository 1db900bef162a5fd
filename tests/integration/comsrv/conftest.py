from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.redis.functions import Functions
from tests.integration.comsrv.site import Site


@pytest.fixture
async def site(functions: Functions, tmp_path: Path) -> AsyncIterator[Site]:
    """Give a device and an empty Redis; everything started through it is stopped."""
    found = Site(functions, tmp_path)
    await found.start()
    yield found
    await found.stack.aclose()
