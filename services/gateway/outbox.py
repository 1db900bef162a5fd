"""What one client has not been sent yet: the newest of each thing, never a queue.

Points are conflated by reference, alarms and commands by id, so the size is bounded by
what the client subscribed to. Events without such a bound (ids that come and go, firings
of rules) are cut at MAX_EVENTS; the client is told with `resync` which stream lost some,
and gets that stream's snapshot again.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from services.gateway.selection import STREAMS, Selection

MAX_EVENTS: Final = 1000

# Value (None: as before), quality, instant of the change.
Sample = tuple[float | str | None, str, int | None]
Document = dict[str, Any]


class Update:
    """Changed points of one kind of one owner, as a message brought them; shared by all clients."""

    __slots__ = ("kind", "owner", "samples", "seq")

    def __init__(self, owner: str, kind: str, seq: int, samples: dict[str, Sample]) -> None:
        """Keep the samples by point id."""
        self.owner, self.kind, self.seq, self.samples = owner, kind, seq, samples


class Outbox:
    """The unsent changes of one client."""

    def __init__(self) -> None:
        """Start with nothing to send."""
        self.ready = asyncio.Event()
        # What counts as subscribed: changes before the snapshot's place in the order are in the snapshot.
        self.active = Selection()
        self._clear()

    def _clear(self) -> None:
        self._seq = 0
        self._points: dict[str, Sample] = {}
        self._seen: dict[str, dict[str, int]] = {}
        self._channels: dict[str, Document] = {}
        self._events: dict[str, dict[str, Document]] = {stream: {} for stream in STREAMS}
        self._lost: set[str] = set()

    def put(self, update: Update) -> None:
        """Take changed points; a newer sample replaces an unsent one."""
        ids = self.active.ids(update.owner, update.kind)
        if not ids:
            return
        everything = "*" in ids
        head = f"{update.owner}:{update.kind}:" if update.kind else f"{update.owner}:"
        for point, sample in update.samples.items():
            if everything or point in ids:
                ref = head + point
                before = self._points.get(ref)
                if sample[0] is None and before is not None:
                    # Only the quality changed: the unsent value is still the last one.
                    self._points[ref] = (before[0], sample[1], sample[2])
                else:
                    self._points[ref] = sample
        self._seq = max(self._seq, update.seq)
        if self._points:
            self.ready.set()

    def put_event(self, stream: str, key: str, document: Document) -> None:
        """Take an alarm, a command or a firing; a newer state of the same id replaces an unsent one."""
        if stream not in self.active.streams:
            return
        events = self._events[stream]
        if key not in events and len(events) >= MAX_EVENTS:
            events.clear()
            self._lost.add(stream)
        if stream not in self._lost:
            events[key] = document
        self.ready.set()

    def put_seen(self, channel: str, blocks: dict[str, int], status: Document) -> None:
        """Take when a channel's blocks last answered, and the channel's state when it changed."""
        if f"comsrv:{channel}" not in self.active.points:
            return
        if blocks:
            self._seen.setdefault(channel, {}).update(blocks)
        if status:
            self._channels[channel] = status
        self.ready.set()

    def begin(self, selection: Selection) -> None:
        """From here on changes of the selection count; what is unsent of it is in the snapshot that follows."""
        self.active.add(selection)
        for stream in selection.streams:
            self._events[stream].clear()
            self._lost.discard(stream)
        if selection.points and self._points:
            self._points = {ref: sample for ref, sample in self._points.items() if not _selects(selection, ref)}

    def end(self, selection: Selection) -> None:
        """Forget a selection the client no longer wants."""
        self.active.remove(selection)
        self._points = {ref: sample for ref, sample in self._points.items() if not _selects(selection, ref)}
        for stream in selection.streams:
            self._events[stream].clear()

    def drop(self) -> None:
        """Forget everything and count nothing until `begin`: Redis was lost."""
        self.active = Selection()
        self._clear()

    def take_lost(self) -> set[str]:
        """Return the streams that lost events, once."""
        lost, self._lost = self._lost, set()
        return lost

    def take(self) -> Document:
        """Return all that is unsent as the body of a delta, and start again empty."""
        taken: Document = {"seq": self._seq} if self._seq else {}
        if self._points:
            taken["points"] = self._points
        if self._seen:
            taken["seen"] = self._seen
        if self._channels:
            taken["channels"] = self._channels
        for stream, events in self._events.items():
            if events:
                taken[stream] = list(events.values())
        lost = self._lost
        self._clear()
        self._lost = lost
        self.ready.clear()
        return taken


def _selects(selection: Selection, ref: str) -> bool:
    owner, _, rest = ref.partition(":")
    name, _, rest = rest.partition(":")
    kind, _, point = rest.rpartition(":")
    return selection.has(f"{owner}:{name}", kind, point)
