"""What devices push: events as `comsrv_ingest` takes them, and what the blocks must know of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from libs.numbers import format_values
from libs.points import PointKind
from services.comsrv.blockimage import BlockImage
from services.comsrv.contract import QUALITY, Event

# The block that events are sent as, and how many a call takes.
EVENTS: Final = "events"
MAX_EVENTS: Final = 500


def rows(events: Sequence[Event]) -> list[list[Any]]:
    """Return the events of a document."""
    texts = format_values([event.value for event in events])
    return [
        [event.kind.value, event.point, event.at_ms, text, QUALITY[event.quality]]
        for event, text in zip(events, texts, strict=True)
    ]


class Places:
    """Where each point stands in the blocks, worked out when the first event comes."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._found: dict[tuple[PointKind, str], tuple[BlockImage, int]] = {}

    def forget(self) -> None:
        """Look anew: there are other blocks."""
        self._found = {}

    def tell(self, images: Iterable[BlockImage], events: Sequence[Event]) -> None:
        """Tell the blocks of the points what Redis was told."""
        if not self._found:
            self._found = {
                (section.kind, point): (image, place)
                for image in images
                for section in image.block.sections
                if not section.text
                for place, point in enumerate(section.ids, section.start)
            }
        for event in events:
            image, place = self._found.get((event.kind, event.point), (None, 0))
            if image is not None:
                image.tell(place, event.value, event.quality, event.at_ms)
