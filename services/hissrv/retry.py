"""Dead letters, tried again: after a mapping, a field's type or the server's retention was put right."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import orjson

from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.queue import EntryId, QueueEntry
from services.hissrv.documents import decode
from services.hissrv.functions import DeadLetter, HistoryFunctions
from services.hissrv.recording import Recorder
from services.hissrv.store.contract import Entry, Part, Store

_GROUP: Final = "hissrv"
# A refused sample's letter gets an id of its own: the entry's was written with its other samples.
_OWN_IDS: Final = 2**40


async def retry(functions: HistoryFunctions, store: Store, ids: list[str]) -> tuple[list[str], dict[str, str]]:
    """Write dead letters once more, oldest first; returns those that are in the store now, and why the others are not.

    A crash in between leaves the letter; to write it again doubles nothing.

    Raises:
        UnavailableError: the store or Redis is away; what was done stays done.
    """
    recorder = Recorder(await functions.recorded())
    done: list[str] = []
    failed: dict[str, str] = {}
    for letter_id in sorted(ids, key=EntryId.parse):
        try:
            await _retry(functions, store, recorder, await functions.dead_letter(letter_id))
        except (InvalidError, NotFoundError, StateError) as error:
            failed[letter_id] = str(error)
        else:
            done.append(letter_id)
    return done, failed


async def _retry(functions: HistoryFunctions, store: Store, recorder: Recorder, letter: DeadLetter) -> None:
    if letter.fields.get("group", _GROUP) != _GROUP:
        raise StateError(f"it is group {letter.fields['group']}'s")
    entry, filtered = _entry(letter, recorder)
    written = await store.write([entry])
    if written.refused:
        raise InvalidError(written.refused[0].reason)
    await functions.retried(letter, filtered)


def _entry(letter: DeadLetter, recorder: Recorder) -> tuple[Entry, int]:
    """Return what a letter holds: one refused sample, or a queue entry that was never written."""
    sample = _sample(letter)
    if sample is not None:
        return sample, 0
    entry_id = EntryId.parse(letter.fields["entry"])
    number = int(letter.fields.get("samples") or 0)
    decoded = decode(QueueEntry(entry_id, 0, letter.fields.get("channel", ""), number, letter.document), recorder)
    return decoded.entry, decoded.filtered


def _sample(letter: DeadLetter) -> Entry | None:
    try:
        document = orjson.loads(letter.document)
        value = math.nan if document["value"] is None else float(document["value"])
        part = Part(int(document["at_ms"]), [document["series"]], np.array([value]), [document["quality"]])
    except (ValueError, TypeError, LookupError):
        return None
    own = EntryId.parse(letter.id)
    return Entry(own._replace(seq=own.seq + _OWN_IDS), [part])
