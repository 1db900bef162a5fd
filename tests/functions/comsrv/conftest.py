"""A claimed channel for the tests of comsrv."""

from __future__ import annotations

import pytest

from libs.redis.functions import Functions
from tests.support.site import Site


@pytest.fixture
async def site(functions: Functions) -> Site:
    """Give a site with channel 1001 claimed, its clock at 1,000,000."""
    return await Site(functions).start()
