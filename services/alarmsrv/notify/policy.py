"""When what is sent to one recipient: single messages, or a digest in a flood. No clock and no socket in here.

A flood is what ISA-18.2 and IEC 62682 call one: more than ten alarms in ten
minutes for one operator begin it, fewer than five in ten minutes end it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from services.alarmsrv.notify.messages import Told
from services.alarmsrv.notify.settings import RateSettings

TEN_MINUTES_MS: Final = 600_000
HOUR_MS: Final = 3_600_000


class Now(NamedTuple):
    """Send these entries, as one message."""

    entries: list[Told]


class Later(NamedTuple):
    """Look again at that instant, or when something comes; None is never."""

    at_ms: int | None


@dataclass
class Recipient:
    """What is kept of one recipient over a restart."""

    sent: list[int] = field(default_factory=list)
    came: list[int] = field(default_factory=list)
    flood: bool = False
    digest_at_ms: int = 0
    failing: str = ""
    """Why the last attempt failed; empty once a message arrived."""

    def text(self) -> str:
        """Return it as kept in Redis."""
        return orjson.dumps(vars(self)).decode()

    @classmethod
    def of(cls, text: str | None) -> Recipient:
        """Read what was kept; nothing, or what nobody can read, is a new one."""
        if not text:
            return cls()
        found: dict[str, Any] = orjson.loads(text)
        return cls(found["sent"], found["came"], found["flood"], found["digest_at_ms"], found.get("failing", ""))

    def take(self, came_ms: int, rate: RateSettings) -> None:
        """Count what came; only as many instants are kept as decide."""
        self.came = sorted([*self.came, came_ms])[-(rate.flood_begin + 1) :]

    def count(self, now: int) -> int:
        """Return how many came in the last ten minutes, at most one more than begins a flood."""
        return sum(1 for at in self.came if at > now - TEN_MINUTES_MS)

    def decide(self, waiting: list[Told], now: int, rate: RateSettings) -> Now | Later:
        """Say what to send now, or when to look again. `waiting` is in the order it came."""
        recent = self.count(now)
        if not self.flood and recent > rate.flood_begin:
            self.flood, self.digest_at_ms = True, 0
        elif self.flood and recent < rate.flood_end:
            self.flood = False
        if not waiting:
            return Later(None)
        self.sent = [at for at in self.sent if at > now - HOUR_MS]
        # A clock that was set back must not make anybody wait for it.
        oldest, newest = min(waiting[0].came_ms, now), min(waiting[-1].came_ms, now)
        if len(self.sent) >= rate.per_hour:
            return Later(self.sent[-rate.per_hour] + HOUR_MS + 1)
        if not self.flood:
            if now < oldest + rate.collect_ms:
                return Later(oldest + rate.collect_ms)
            # What waited for its hour goes as one, or it would fill the next hour too.
            if len(self.sent) + len(waiting) > rate.per_hour:
                return Now(waiting)
            # What a shift finds when it begins is one message.
            found = [one for one in waiting if one.kind == "standing"] if waiting[0].kind == "standing" else []
            return Now(found or waiting[:1])
        settled = min(newest + rate.quiet_ms, oldest + rate.longest_wait_ms)
        if self.digest_at_ms and all(one.level != "Critical" for one in waiting):
            settled = max(settled, self.digest_at_ms + rate.digest_interval_s * 1000)
        return Now(waiting) if now >= settled else Later(settled)

    def sent_now(self, now: int) -> None:
        """Note that a message left."""
        self.sent.append(now)
        if self.flood:
            self.digest_at_ms = now
