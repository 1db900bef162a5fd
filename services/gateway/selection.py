"""What a client of the stream wants: references with `*`, and the event streams.

`comsrv:1001:T:*`, `comsrv:1001:T:7`, `comsrv:1001:*`, `modsrv:pv1:*`,
`modsrv:pv1:active_power`, `alarms`, `rules`, `commands`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from libs.errors import InvalidError

STREAMS: Final = frozenset({"alarms", "rules", "commands"})
# The kinds of a channel's hashes; X are its text points.
KINDS: Final = ("T", "S", "A", "C", "X")
# A model's points have no kind.
NO_KIND: Final = ""
ALL: Final = "*"
_CHANNEL: Final = re.compile(r"(comsrv:[1-9][0-9]{0,8}):(?:(\*)|([TSACX]):(\*|[1-9][0-9]{0,8}))")
_MODEL: Final = re.compile(r"(modsrv:[A-Za-z0-9_-]{1,64}):(\*|[A-Za-z0-9_-]{1,64})")

# owner -> kind -> ids, or ALL among them.
Wanted = dict[str, dict[str, set[str]]]


class Selection:
    """A set of references: owner (`comsrv:1001`) -> kind -> ids; and event streams."""

    def __init__(self) -> None:
        """Start empty."""
        self.points: Wanted = {}
        self.streams: set[str] = set()

    @classmethod
    def parse(cls, refs: Iterable[str]) -> Selection:
        """Return the selection of references as a client writes them.

        Raises:
            InvalidError: one is none; it is named.
        """
        found = cls()
        for ref in refs:
            if ref in STREAMS:
                found.streams.add(ref)
            elif match := _CHANNEL.fullmatch(ref):
                owner, everything, kind, point = match.groups()
                for one in KINDS if everything else (kind,):
                    found.points.setdefault(owner, {}).setdefault(one, set()).add(ALL if everything else point)
            elif match := _MODEL.fullmatch(ref):
                found.points.setdefault(match[1], {}).setdefault(NO_KIND, set()).add(match[2])
            else:
                raise InvalidError(
                    f"{ref[:100]!r} can't be subscribed; write comsrv:1001:T:*, comsrv:1001:T:1, modsrv:pv1:*, "
                    "alarms, rules or commands"
                )
        return found

    def __bool__(self) -> bool:
        """Say whether it selects anything."""
        return bool(self.points or self.streams)

    def __len__(self) -> int:
        """Return how many references it holds."""
        return len(self.streams) + sum(len(ids) for kinds in self.points.values() for ids in kinds.values())

    @property
    def owners(self) -> list[str]:
        """The channels and models it selects points of."""
        return list(self.points)

    def ids(self, owner: str, kind: str) -> set[str]:
        """Return the ids selected of an owner's kind: `{"*", ...}` is all of them."""
        return self.points.get(owner, {}).get(kind, set())

    def has(self, owner: str, kind: str, point: str) -> bool:
        """Say whether it selects a point."""
        ids = self.ids(owner, kind)
        return ALL in ids or point in ids

    def add(self, other: Selection) -> None:
        """Select what the other does as well."""
        self.streams |= other.streams
        for owner, kinds in other.points.items():
            for kind, ids in kinds.items():
                self.points.setdefault(owner, {}).setdefault(kind, set()).update(ids)

    def remove(self, other: Selection) -> None:
        """Select no longer what the other names; `*` takes all away, single ids only themselves."""
        self.streams -= other.streams
        for owner, kinds in other.points.items():
            mine = self.points.get(owner, {})
            for kind, ids in kinds.items():
                left = set() if ALL in ids else mine.get(kind, set()) - ids
                if left:
                    mine[kind] = left
                else:
                    mine.pop(kind, None)
            if not mine:
                self.points.pop(owner, None)

    def parts(self, models: int, channels: int) -> list[Selection]:
        """Cut it into selections of so many models or channels at most; the streams go with the first."""
        part, taken = Selection(), 0.0
        part.streams = set(self.streams)
        cut = [part]
        for owner, kinds in self.points.items():
            share = 1 / (channels if owner.startswith("comsrv:") else models)
            if taken + share > 1:
                part, taken = Selection(), 0.0
                cut.append(part)
            part.points[owner] = kinds
            taken += share
        return cut

    def refs(self) -> list[str]:
        """Return it as references, as `parse` reads them."""
        found = sorted(self.streams)
        for owner, kinds in self.points.items():
            for kind, ids in kinds.items():
                head = f"{owner}:{kind}:" if kind else f"{owner}:"
                found += [head + point for point in sorted(ids)]
        return found
