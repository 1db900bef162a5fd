"""requirements.lock pins what the project needs and names no machine."""

from __future__ import annotations

import pytest

from scripts.check_lock import ROOT, problems

PROJECT = """
[build-system]
requires = ["hatchling>=1"]
[project]
dependencies = ["aiohttp>=3.14,<4"]
"""
LOCK = "aiohttp==3.14.5 \\\n    --hash=sha256:00\nhatchling==1.28.0 \\\n    --hash=sha256:00\n"


def test_the_committed_lock_is_fresh():
    assert problems((ROOT / "requirements.lock").read_text(), (ROOT / "pyproject.toml").read_text()) == []


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (LOCK.replace("3.14.5", "3.13.0"), "has 3.13.0 for aiohttp>=3.14,<4"),
        (LOCK.replace("hatchling", "other"), "has nothing for hatchling>=1"),
        (LOCK.replace("    --hash=sha256:00\nhatch", "hatch"), "has no hash for aiohttp"),
        ("--index-url https://example.org/simple\n" + LOCK, "names a place"),
        ("aiohttp @ file:///wheels/aiohttp.whl\n" + LOCK, "names a place"),
        ("-f /wheels\n" + LOCK, "names a place"),
    ],
)
def test_a_stale_or_tied_lock_is_told(lock: str, said: str):
    assert any(said in problem for problem in problems(lock, PROJECT))
