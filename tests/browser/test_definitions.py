"""What an engineer does: ask why, look at what would change, decide, go back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.operator import STATE_OF_CHARGE, no_finding, set_to
from tests.support.processes import Api, Site

CAREFUL = {
    "id": "careful",
    "name": "Careful",
    "requires_approval": True,
    "conditions": [{"source": "modsrv:grid:frequency", "operator": "<", "value": 49}],
}
POINTLESS = {
    "id": "pointless",
    "name": "Pointless",
    "conditions": [{"source": "modsrv:grid:frequency", "operator": "<", "value": 49}],
    "actions": [{"type": "command", "params": {"channel": 9999, "type": "C", "point": 1, "value": 1}}],
}
STRICTER = CAREFUL | {"conditions": [CAREFUL["conditions"][0] | {"value": 48.5}]}


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """Give the API as another person than who looks at the page."""
    async with aiohttp.ClientSession() as session:
        yield Api(site, session, site.token("engineer"))


async def test_a_rule_says_why_and_is_switched(page: Page) -> None:
    await set_to(page, STATE_OF_CHARGE, "60")
    rule = page.locator(".rules li[data-id=genset_start]")
    await rule.get_by_role("button", name="Why").click()
    decides = rule.locator(".tree li.decides")
    await expect(decides).to_contain_text("state of charge < 20.00 % for 30 s")
    await expect(decides).to_contain_text(re.compile(r"now \d\d\.\d\d %$"))
    await expect(rule.locator(".actions")).to_contain_text("command Genset · Start to on")
    await rule.get_by_role("button", name="Switch off").click()
    await expect(rule.locator(".because")).to_have_text("It is switched off.")
    await rule.get_by_role("button", name="Switch on").click()
    await expect(rule.locator(".because")).to_have_text("Its conditions do not hold.")


async def opened(page: Page, definition: str) -> Locator:
    """Open a rule or an alarm definition."""
    row = page.locator(f".rules li[data-id={definition}]")
    await row.locator("button.name").first.click()
    return row


async def test_what_a_rule_names_and_there_is_not_is_said(page: Page, api: Api) -> None:
    assert (await api("POST", "/api/rules", POINTLESS)).status == 201
    rule = page.locator(".rules li[data-id=pointless]")
    await expect(rule.locator(".marks")).to_have_text("warning", timeout=20_000)
    await opened(page, "pointless")
    await expect(rule.locator(".problem").first).to_contain_text("there is no channel 9999")
    assert (await api("DELETE", "/api/rules/pointless")).status == 200
    # The list is read every five seconds.
    await expect(rule).to_have_count(0, timeout=20_000)


async def test_a_proposal_is_read_approved_and_not_by_who_made_it(page: Page, api: Api) -> None:
    assert (await api("POST", "/api/rules", CAREFUL)).status == 201
    proposal = {"definition": STRICTER, "reason": "as agreed"}
    assert (await api("POST", "/api/rules/careful/proposals", proposal)).status == 201
    rule = await opened(page, "careful")
    waiting = rule.locator(".waiting")
    await expect(waiting).to_contain_text("tester proposes a change “as agreed”")
    await expect(waiting.locator(".diff")).to_have_text(re.compile(r"conditions\[0\]\.value was 49 now 48\.5"))
    await waiting.get_by_label("Comment").fill("seen")
    await waiting.get_by_role("button", name="Approve").click()
    newest = rule.locator(".versions li").first
    await expect(newest).to_contain_text("Version 2: changed")
    await expect(newest).to_contain_text("tester, approved by admin · “as agreed”")
    await expect(waiting).to_have_count(0)
    await rule.get_by_role("button", name="Version 1: created").click()
    await rule.get_by_role("button", name="Propose version 1 again…").click()
    await rule.get_by_label("Reason").fill("too strict")
    await rule.get_by_role("button", name="Propose", exact=True).click()
    await expect(waiting).to_contain_text("You propose to bring version 1 back “too strict”")
    await expect(waiting.get_by_role("button", name="Approve")).to_have_count(0)
    await waiting.get_by_role("button", name="Take back").click()
    await expect(waiting).to_have_count(0)


async def test_a_version_runs_as_a_shadow_and_is_brought_back(page: Page, api: Api) -> None:
    path = "/api/alarm-definitions/grid_import_high"
    definition = (await api("GET", path)).body
    assert (await api("PUT", path, definition | {"limit": 160})).status == 200
    await page.get_by_role("button", name="Alarm definitions").click()
    alarm = await opened(page, "grid_import_high")
    await expect(alarm.locator(".because").first).to_have_text("Grid connection · active power over 160.00 kW.")
    await alarm.get_by_role("button", name="Version 1: created").click()
    await alarm.get_by_role("button", name="Run version 1 as a shadow…").click()
    await alarm.get_by_role("button", name="Run as a shadow", exact=True).click()
    shadow = alarm.get_by_role("group", name="Shadow")
    await expect(shadow.locator(".diff")).to_have_text(re.compile("limit was 160 now 150"))
    await expect(shadow).to_contain_text("they were the same 100 % of the time")
    await shadow.get_by_role("button", name="End it…").click()
    await shadow.get_by_role("button", name="End it", exact=True).click()
    await expect(shadow).to_have_count(0)
    await alarm.get_by_role("button", name="Bring version 1 back…").click()
    await alarm.get_by_role("button", name="Bring back", exact=True).click()
    await expect(alarm.locator(".versions li").first).to_contain_text("Version 3: rolled back to 1")
    await expect(alarm.locator(".because").first).to_contain_text("over 150.00 kW")


async def test_axe_finds_nothing(page: Page, api: Api) -> None:
    """Each panel open, light and dark, wide and narrow."""
    await api("PUT", "/api/rules/surplus/shadow", {"version": 1, "reason": "as it is"})
    await set_to(page, STATE_OF_CHARGE, "10")
    await page.locator(".alarm", has_text="Battery nearly empty").get_by_role("button", name="Details of").click()
    await page.click("tr[data-ref='comsrv:1001:T:1'] button")
    await page.get_by_role("button", name="Alarm definitions").click()
    rule = await opened(page, "surplus")
    await rule.get_by_role("button", name="Version 1").click()
    await rule.get_by_role("button", name="Put it in place…").click()
    await opened(page, "grid_import_high")
    await expect(page.get_by_role("group", name="Versions")).to_have_count(2)
    await page.wait_for_selector("#trend canvas")
    await no_finding(page)
    await page.get_by_role("button", name="Use dark colors").click()
    await no_finding(page)
    await page.set_viewport_size({"width": 375, "height": 812})
    await no_finding(page)


async def test_axe_finds_nothing_at_the_door(page: Page) -> None:
    await page.click(".user summary")
    await no_finding(page)
    await page.click("text=Log out")
    await page.wait_for_selector("input[name=password]")
    await no_finding(page)
