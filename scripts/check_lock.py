"""Check requirements.lock against pyproject.toml, without a network.

Every dependency the project names must be pinned to a version in its range,
every pin must carry a hash, and nothing in the file may name a registry's
address or a path of the machine it was written on.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)")
PLACE = re.compile(r"://|@ |^-(?!-hash)|file:|(^|\s)/")


def problems(lock: str, project: str) -> list[str]:
    """Return what is wrong with a lock for a pyproject; empty when it is fresh."""
    found: list[str] = []
    pins: dict[str, str] = {}
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    for number, line in enumerate(lines):
        if PLACE.search(line.strip().removesuffix("\\")):
            found.append(f"requirements.lock names a place: {line.strip()}")
        if pin := PIN.match(line):
            pins[canonicalize_name(pin[1])] = pin[2]
            if "--hash=sha256:" not in "".join(lines[number : number + 2]):
                found.append(f"requirements.lock has no hash for {pin[1]}")
    document = tomllib.loads(project)
    wanted = [*document["project"]["dependencies"], *document["build-system"]["requires"]]
    for extra in document["project"].get("optional-dependencies", {}).values():
        wanted += extra
    for text in wanted:
        requirement = Requirement(text)
        pinned = pins.get(canonicalize_name(requirement.name))
        if pinned is None or not requirement.specifier.contains(pinned, prereleases=True):
            found.append(f"requirements.lock has {pinned or 'nothing'} for {text}; run: make lock")
    return found


def main() -> int:
    """Print the problems; 1 when there are any."""
    found = problems((ROOT / "requirements.lock").read_text(), (ROOT / "pyproject.toml").read_text())
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
