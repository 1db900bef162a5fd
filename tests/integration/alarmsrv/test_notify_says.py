"""What a message says: the value with its unit, names, priority, and what the operator should do."""

from __future__ import annotations

from pathlib import Path

from libs.redis.functions import Functions
from tests.functions.alarmsrv.test_life_cycle import HOT
from tests.support.mail import MailServer
from tests.support.notify import Hook, email_of, settings_of, settled, site, webhook_of
from tests.support.servers import RedisServer
from tests.support.site import START, Site

GUIDANCE = {"cause": "Cooling failed", "consequence": "It opens", "action": "Go", "time_to_respond_ms": 600_000}
TEXT = """\
hot

What:        raised
Level:       Major, priority 750
Status:      New
Value:       81.2346 °C (good)
Source:      Cell 1 (comsrv:2001:T:1)
Time:        1970-01-01 00:16:40 UTC
Alarm:       {alarm}
Definition:  Battery hot (hot)
Area:        Hall 3
Equipment:   k1

Cause:       Cooling failed
Consequence: It opens
Action:      Go
Respond:     within 10 min

https://ems.example.com/#alarm={alarm}
"""


async def test_what_a_mail_and_a_webhook_say(
    functions: Functions, redis_server: RedisServer, tmp_path: Path, mail: MailServer, hook: Hook
) -> None:
    """The unit and name of the point, the definition's name, its guidance: of one, and of each in a digest."""
    plant = await Site(functions, 2001).start()
    channel = {
        "id": 2001, "name": "test", "protocol": "virtual",
        "points": {"T": [{"id": 1, "name": "Cell 1", "unit": "°C"}, {"id": 2}]},
    }  # fmt: skip
    await functions.call("channel_upsert", 2001, channel)
    await plant.claim()
    routes = [{"id": "shift", "to": ["email:anna@example.com", "webhook:pager"]}]
    ways = {"email": email_of(mail), "webhooks": webhook_of(hook), "page_url": "https://ems.example.com/"}
    more = {
        "source": "comsrv:2001:T:1", "name": "Battery hot", "priority": 750, "area": "Hall 3", "equipment": "k1",
        "guidance": GUIDANCE,
    }  # fmt: skip
    async with site(functions, settings_of(redis_server.url, tmp_path, routes, **ways)):
        await functions.call("alarm_define", "hot", {**HOT, **more})
        await plant.put({1: 81.234568})
        await settled(functions)
        text = mail.of("anna@example.com")[0].get_content()
        data = hook.got[0][1]["data"]
        rule = {
            "name": "look",
            "conditions": {"source": "comsrv:2001:T:1", "operator": ">", "value": 80},
            "actions": [{"type": "notify", "params": {"message": "Go and look", "level": "Major"}}],
        }
        await functions.call("rule_upsert", "look", rule)
        await settled(functions)
        assert mail.of("anna@example.com")[1]["Subject"] == "[Test] Major: Go and look (notice of a rule)"
        assert (hook.got[1][1]["type"], hook.got[1][1]["data"]["alarm"]) == ("alarm.notice", "rule:look")
        assert hook.got[1][1]["data"]["url"] == "https://ems.example.com/"
        assert text.replace("\r\n", "\n") == TEXT.format(alarm=data["alarm"])
        said = {
            "unit": "°C", "point": "Cell 1", "definition": "hot", "definition_name": "Battery hot", "priority": 750,
            "value": 81.234568, "guidance": GUIDANCE, "raised_at_ms": START,
            "url": f"https://ems.example.com/#alarm={data['alarm']}",
        }  # fmt: skip
        assert {name: data[name] for name in said} == said
