"""What differs between two documents, at the depth where it differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ABSENT = object()


class Difference(NamedTuple):
    """A path, what stood there and what will; None where nothing did or will."""

    path: str
    old: Any
    new: Any

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"path": self.path, "old": self.old, "new": self.new}


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """Yield what differs: members by name, items of lists by their `id` or their place, as in `points.T.7.scale`.

    A list of plain values differs as a whole.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            inner = f"{path}.{name}" if path else str(name)
            yield from differences(old.get(name, ABSENT), new.get(name, ABSENT), inner)
    elif (before := _by_id(old)) is not None and (after := _by_id(new)) is not None and (before or after):
        yield from differences(before, after, path)
    elif _items(old) and _items(new):
        for index in range(max(len(old), len(new))):
            was, becomes = (items[index] if index < len(items) else ABSENT for items in (old, new))
            yield from differences(was, becomes, f"{path}[{index}]")
    elif old != new:
        yield Difference(path, None if old is ABSENT else old, None if new is ABSENT else new)


def _items(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _by_id(value: Any) -> dict[str, Any] | None:
    """Return a list of objects by their ids; None for anything else."""
    if value is ABSENT:
        return None
    if not isinstance(value, list) or not all(isinstance(item, Mapping) and "id" in item for item in value):
        return None
    return {str(item["id"]): item for item in value}
