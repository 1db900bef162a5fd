"""The recorded values of a point, from hissrv over HTTP."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import orjson

from libs.config import Settings
from libs.errors import UnavailableError, error_of
from libs.http.tokens import Role, issue, signing_key
from services.alarmsrv.quality.recommend import Sample

TIMEOUT_S: Final = 30.0
TTL_S: Final = 60
LIMIT: Final = 50_000
# The upper two bits of a quality are those of OPC: both set is good.
GOOD: Final = 0xC0


class History:
    """Asks hissrv as this service."""

    def __init__(self, settings: Settings) -> None:
        """Keep where it is."""
        self._settings = settings
        self._url = settings.service_url("hissrv") + "/api/history/query"

    async def samples(self, ref: str, start_ms: int, end_ms: int) -> list[Sample]:
        """Return the samples of a span as recorded, oldest first, the newest 50,000 at most.

        Raises:
            UnavailableError: hissrv does not answer.
            VoltageError: what it answered.
        """
        body = {"series": [ref], "start": start_ms, "end": end_ms, "limit": LIMIT, "order": "desc"}
        token = issue(signing_key(self._settings), "alarmsrv", Role.VIEWER, TTL_S)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, data=orjson.dumps(body), headers=headers) as answer,
            ):
                status, document = answer.status, orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"history is away: {error or type(error).__name__}") from None
        if status != 200:
            raise error_of(document.get("code"), f"history: {document.get('detail')}")
        return [_sample(*point[:3]) for series in document["series"] for point in reversed(series["points"])]


def _sample(at_ms: Any, value: Any, quality: Any) -> Sample:
    good = value is not None and int(quality) & GOOD == GOOD
    return Sample(int(at_ms), float(value) if good else None)
