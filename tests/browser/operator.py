"""What tests of the page do as its operator."""

from __future__ import annotations

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

STATE_OF_CHARGE = ".control[data-ref='comsrv:1003:A:4']"
DONE_MS = 10_000


async def set_to(page: Page, control: str, value: str) -> None:
    """Set a point in two steps and wait until it is verified."""
    await page.fill(f"{control} input", value)
    await page.click(f"{control} >> text=Set…")
    await page.click(f"{control} >> text=Confirm")
    await expect(page.locator(f"{control} .progress")).to_have_attribute("data-state", "verified", timeout=DONE_MS)


async def no_finding(page: Page) -> None:
    """Run axe-core over what is shown, by the rules of WCAG 2.2 AA and its own advice."""
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = await Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
