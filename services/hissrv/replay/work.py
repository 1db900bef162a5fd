"""One replay from its request to its report; it runs in a process of its own (__main__.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from libs.errors import NotFoundError
from libs.redis.server import Binary
from libs.validation import Model
from services.hissrv.replay.backtest import Backtest, change_of
from services.hissrv.replay.compare import Comparison
from services.hissrv.replay.past import Past, Recorded
from services.hissrv.replay.run import Replay
from services.hissrv.replay.span import Limits, Replayed

# What a report holds at most of each list, and a job's own result.
MOST: Final = 10_000
SHOWN: Final = 20


class Request(Model):
    """What to replay, and where the report goes."""

    folder: Path
    server: Path
    namespace: str
    start: int
    end: int
    memory_bytes: int
    report: Path
    of: Literal["rule", "alarm"] | None = None
    definition: dict[str, Any] | None = None
    history: Recorded | None = None


def perform(request: Request, told: Callable[[float, str], None]) -> dict[str, Any]:
    """Replay, write the report, and return the result of the job: the report with short lists.

    Raises:
        NotFoundError: there is no log of that time.
        LimitError: it took too much.
        VoltageError: what the functions say of a changed definition.
    """
    began = time.monotonic()
    replay = _replay(request)
    change = backtest = None
    if request.of is not None and request.definition is not None:
        change = change_of(request.of, request.definition)
        backtest = Backtest(request.of, change.id, request.start)
    comparison = Comparison(changed=change is not None)
    for outcome in replay.run(change, told, backtest):
        comparison.take(outcome)
        if backtest is not None:
            backtest.take(outcome)
    if not replay.calls and not replay.reasons:
        raise NotFoundError("nothing was recorded in that time")
    end_ms = min(request.end, replay.last_ms)
    report = {
        "start_ms": request.start,
        "end_ms": end_ms,
        "source": "log" if request.history is None else "history",
        "exact": replay.exact,
        "reasons": replay.reasons,
        "calls": replay.calls,
        "took_ms": round(1000 * (time.monotonic() - began)),
        "journals": comparison.by_journal,
        "different": comparison.total,
        "differences": [one.document() | {"said": one.said()} for one in comparison.differences()[:MOST]],
    }
    if backtest is not None:
        report |= backtest.report(end_ms)
    request.report.parent.mkdir(parents=True, exist_ok=True)
    request.report.write_bytes(orjson.dumps(short(report, MOST)))
    return short(report, SHOWN)


def _replay(request: Request) -> Replayed:
    binary, limits = Binary(request.server, "", ""), Limits(request.memory_bytes)
    span = request.start, request.end
    if request.history is None:
        return Replay(request.folder, binary, request.namespace, *span, limits)
    return Past(request.history, request.folder, binary, request.namespace, *span, limits)


def short(report: dict[str, Any], most: int) -> dict[str, Any]:
    """Return a report with at most so many of each list; how many there are stands beside it."""
    found = dict(report)
    for name in ("differences", "events"):
        if len(found.get(name, ())) > most:
            found[name] = found[name][:most]
            found["cut"] = True
    if "events" in found:
        found["event_count"] = len(report["events"])
    return found
