"""The page in Debian's Chromium, over a whole site of its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from services.gateway import links
from tests.support.processes import Site

ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these on the worker of the system tests: each site wants the processor for itself."""
    for item in items:
        if "tests/browser/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the demo site, running."""
    running = Site(tmp_path_factory.mktemp("site"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Give a browser; Debian's, because nothing is downloaded for a test."""
    binary = shutil.which("chromium")
    assert binary, "chromium is missing; install it with: apt-get install chromium"
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=binary, args=list(ARGUMENTS))
        yield started
        await started.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Give a browser's profile that holds nothing yet."""
    made = await browser.new_context(viewport={"width": 1440, "height": 1000})
    made.set_default_timeout(15_000)
    yield made
    await made.close()


@pytest.fixture
async def page(context: BrowserContext, site: Site) -> AsyncIterator[Page]:
    """Give the page, logged in by a one-time link; an error of its scripts fails the test."""
    opened = await context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    await opened.goto(f"{site.url()}/#link={links.create(site.data)}")
    await opened.wait_for_selector("tr[data-ref='comsrv:1001:T:1'].good")
    yield opened
    assert not errors
