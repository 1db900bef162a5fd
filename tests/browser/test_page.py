"""What an operator does: look, trust or not, acknowledge, set."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
from playwright.async_api import BrowserContext, Page, expect
from pyModbusTCP.server import DataBank, ModbusServer

from services.gateway import links
from tests.browser.operator import DONE_MS, STATE_OF_CHARGE, no_finding, set_to
from tests.support.processes import Api, Site
from tests.support.servers import free_port
from tests.support.wait import wait_until

GRID_POWER = "tr[data-ref='comsrv:1001:T:1']"
AGES_OUTSIDE_OF_THEIR_CARD = """() => {
    const right = (element) => element.getBoundingClientRect().right;
    const ages = [...document.querySelectorAll("td.age")];
    return ages.filter((age) => right(age) > right(age.closest("table").parentElement) + 1).length;
}"""
SET_POINT = ".control[data-ref='comsrv:1003:A:1']"


async def test_the_link_leaves_the_address_and_values_change(page: Page) -> None:
    assert "link" not in page.url
    shown = page.locator(f"{GRID_POWER} .value")
    before = await shown.inner_text()
    await expect(shown).not_to_have_text(before, timeout=DONE_MS)
    assert await page.locator(f"{GRID_POWER} .quality").inner_text() == "good"


async def test_a_reload_stays_logged_in_and_log_out_ends_it(page: Page) -> None:
    await page.reload()
    await page.wait_for_selector(f"{GRID_POWER}.good")
    await page.click(".user summary")
    await page.click("text=Log out")
    await page.wait_for_selector("input[name=password]")
    await page.reload()
    await page.wait_for_selector("input[name=password]")


async def test_a_set_point_takes_two_steps_and_shows_its_way(page: Page) -> None:
    await page.fill(f"{SET_POINT} input", "500")
    await page.click(f"{SET_POINT} >> text=Set…")
    await expect(page.locator(f"{SET_POINT} .problem")).to_contain_text("outside")
    await page.fill(f"{SET_POINT} input", "25,5")
    await page.click(f"{SET_POINT} >> text=Set…")
    await expect(page.locator(f"{SET_POINT} .confirm")).to_contain_text("25.50 kW")
    await page.click(f"{SET_POINT} >> text=Cancel")
    await expect(page.locator(f"{SET_POINT} .progress")).to_have_count(0)
    await set_to(page, SET_POINT, "25,5")
    await expect(page.locator(f"{SET_POINT} > .value")).to_have_text("25.50 kW")
    await expect(page.locator(".commands li").first).to_contain_text("user admin")


async def test_an_alarm_is_seen_and_acknowledged(page: Page) -> None:
    await set_to(page, STATE_OF_CHARGE, "10")
    alarm = page.locator(".alarm", has_text="Battery nearly empty")
    await expect(alarm).to_contain_text("New")
    await alarm.get_by_role("button", name="Acknowledge").click()
    await expect(alarm).to_contain_text("Acknowledged")
    await expect(alarm).to_contain_text("by admin")
    await expect(alarm.get_by_role("button", name="Acknowledge")).to_have_count(0)


async def test_an_alarm_is_shelved_and_its_journal_read(page: Page) -> None:
    await set_to(page, STATE_OF_CHARGE, "11")
    alarm = page.locator(".alarm", has_text="Battery nearly empty")
    await alarm.get_by_role("button", name="Details of").click()
    await alarm.get_by_label("Comment").fill("charges at noon")
    await alarm.get_by_label("For how long").select_option(label="4 hours")
    await alarm.get_by_role("button", name="Shelve", exact=True).click()
    await expect(alarm.locator(".mark", has_text="shelved for")).to_have_count(1)
    await expect(page.locator("#alarms span.hint")).to_contain_text("kept quiet")
    shelved = alarm.locator(".history tr", has=page.get_by_role("rowheader", name="shelved", exact=True))
    await expect(shelved).to_contain_text("admin “charges at noon”")
    await alarm.get_by_role("button", name="End shelving").click()
    await expect(alarm.locator(".mark", has_text="shelved")).to_have_count(0)
    await expect(alarm.locator(".history tr").first).to_contain_text("unshelved")


async def test_the_address_of_a_message_opens_its_alarm(page: Page) -> None:
    await set_to(page, STATE_OF_CHARGE, "9")
    alarm = page.locator(".alarm", has_text="Battery nearly empty")
    name = await alarm.get_attribute("data-id")
    await page.evaluate("name => location.hash = `alarm=${name}`", name)
    await page.reload()
    details = alarm.get_by_role("button", name="Details of")
    await expect(details).to_have_attribute("aria-expanded", "true")
    await expect(details).to_be_focused()
    await expect(alarm).to_be_in_viewport()
    await set_to(page, STATE_OF_CHARGE, "50")
    if await alarm.get_by_role("button", name="Acknowledge").count():
        await alarm.get_by_role("button", name="Acknowledge").click()
    await expect(alarm).to_contain_text("Closed", timeout=DONE_MS)
    await expect(alarm.locator(".history tr").first).to_contain_text("resolved")
    await no_finding(page)
    await page.evaluate("location.hash = 'alarm=al-none'")
    await expect(page.locator("#alarms .problem")).to_contain_text("al-none")
    await page.evaluate("location.hash = ''")
    await expect(page.locator("#alarms .problem")).to_have_count(0)


async def test_a_trend_shows_history_and_goes_on(page: Page) -> None:
    await page.click(f"{GRID_POWER} button")
    await expect(page.locator("#trend h2")).to_have_text("Grid meter · Active power")
    await page.wait_for_selector("#trend canvas")
    await page.click("#trend >> text=1 h")
    await expect(page.locator("#trend .spans [aria-pressed=true]")).to_have_text("1 h")
    await expect(page.locator("#trend .chart + .hint")).to_have_text("")


async def test_a_viewer_sees_no_buttons(context: BrowserContext, site: Site) -> None:
    page = await context.new_page()
    link = links.create(site.data, user="vera", role="viewer")
    await page.goto(f"{site.url()}/login?link={link}")
    await page.wait_for_selector(f"{GRID_POWER}.good")
    await expect(page.locator(".control .enter")).to_have_count(0)
    await expect(page.locator("button.acknowledge")).to_have_count(0)


async def test_a_phone_needs_no_sideways_scrolling(page: Page) -> None:
    await page.set_viewport_size({"width": 375, "height": 812})
    await page.click(f"{GRID_POWER} button")
    await page.wait_for_selector("#trend canvas")
    assert await page.evaluate("document.documentElement.scrollWidth") == 375


async def test_the_keyboard_is_enough(page: Page) -> None:
    await page.locator(f"{GRID_POWER} button").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#trend h2")).to_have_text("Grid meter · Active power")
    await page.locator(f"{SET_POINT} input").focus()
    await page.keyboard.type("12")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"{SET_POINT} .confirm")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(f"{SET_POINT} .confirm")).to_have_count(0)


async def test_what_is_not_live_never_looks_live(page: Page, site: Site) -> None:
    gateway = site.pid("gateway")
    os.kill(gateway, signal.SIGSTOP)
    try:
        await expect(page.locator("#stale-banner")).to_contain_text("Data as of")
        await expect(page.locator(f"{GRID_POWER} .quality")).to_have_text("not live")
        assert await page.locator(f"{SET_POINT} button", has_text="Set…").is_disabled()
        await no_finding(page)
    finally:
        os.kill(gateway, signal.SIGCONT)
    await page.wait_for_selector(".stream.live >> visible=true", timeout=30_000)
    await page.wait_for_selector(f"{GRID_POWER}.good")


async def test_a_device_that_is_silent_is_bad_in_word_and_color(page: Page, site: Site) -> None:
    simulator = site.pid("simulator")
    os.kill(simulator, signal.SIGSTOP)
    try:
        await page.wait_for_selector(f"{GRID_POWER}.bad", timeout=20_000)
        assert "bad" in await page.locator(f"{GRID_POWER} .quality").inner_text()
        assert await page.evaluate(AGES_OUTSIDE_OF_THEIR_CARD) == 0
        await no_finding(page)
    finally:
        os.kill(simulator, signal.SIGCONT)
    await page.wait_for_selector(f"{GRID_POWER}.good", timeout=30_000)
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token("viewer"))

        async def healthy() -> bool:
            return (await api("GET", "/health")).status == 200

        await wait_until(healthy, "the site is well again", 30)


async def test_a_text_is_set_in_two_steps_too(page: Page, site: Site) -> None:
    """Over a channel that came through the API; the page shows the text that was read back."""
    port, bank = free_port(), DataBank()
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=bank)
    await asyncio.to_thread(server.start)
    mapping = {"slave_id": 1, "function_code": 16, "register_address": 0, "data_type": "string", "register_count": 8}
    label = {"id": 1, "name": "Tariff", "data_type": "string", "mapping": mapping}
    channel = {
        "id": 1090, "name": "Display", "protocol": "modbus_tcp", "points": {"A": [label]},
        "parameters": {"host": "127.0.0.1", "port": port},
    }  # fmt: skip
    control = ".control[data-ref='comsrv:1090:X:1']"
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token("engineer"))
        try:
            assert (await api("POST", "/api/channels", channel)).status == 201
            await page.reload()
            await set_to(page, control, "Night 2")
            await expect(page.locator(f"{control} .value")).to_have_text("Night 2", timeout=DONE_MS)
            await expect(page.locator(".commands li").first).to_contain_text("Display · Tariff → Night 2")
        finally:
            await api("DELETE", "/api/channels/1090")
            await asyncio.to_thread(server.stop)
    assert bank.get_holding_registers(0, 4) == [0x4E69, 0x6768, 0x7420, 0x3200]
