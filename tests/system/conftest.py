"""A running demo site for the tests that only use it; those that break one start their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.processes import Api, Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of whole sites on one worker: each site wants the processor for itself."""
    for item in items:
        if "tests/system/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the demo site, running; a test leaves it as it was."""
    running = Site(tmp_path_factory.mktemp("site"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def engineer(site: Site) -> str:
    """Give an engineer's token of the running site."""
    return site.token("engineer")


@pytest.fixture
async def api(site: Site, engineer: str) -> AsyncIterator[Api]:
    """Give the running site's HTTP, as an engineer."""
    async with aiohttp.ClientSession() as session:
        yield Api(site, session, engineer)


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Give a maker of sites that a test may break; it says the options of `voltage up`."""
    made: list[Site] = []

    def make(*options: str, **variables: str) -> Site:
        one = Site(tmp_path / f"site{len(made)}", **variables)
        made.append(one)
        one.start(*options)
        return one

    yield make
    for one in made:
        one.stop()
