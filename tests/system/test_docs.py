"""The pages of docs/ are true: their `sh` blocks run as they stand, in order, on a demo site of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.example import install
from tests.support.processes import ROOT, Site

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# Other pages speak of brokers and servers elsewhere; their services' own tests run them.
RUN = [
    DOCS / f"{name}.md"
    for name in (
        "new-protocol",
        "grpc",
        "new-model-template",
        "new-rule",
        "rules",
        "troubleshooting",
        "production",
        "backup",
        "modbus-server",
        "configuration",
        "versions",
        "shadow",
        "rules-library",
        "library",
        "alarms",
        "history",
        "live-stream",
        "replay",
    )
]
_BLOCK = re.compile(r"^```(sh|sh before)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOWS = re.compile(r"# shows (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)\)")


class Block(NamedTuple):
    """A block of a page: what runs, and what must be seen of it (alternatives are split by |)."""

    text: str
    shows: list[str]


def blocks(page: Path, *, before: bool) -> list[Block]:
    """Return the blocks that run before the site starts, or after."""
    kind = "sh before" if before else "sh"
    return [Block(text, _SHOWS.findall(text)) for found, text in _BLOCK.findall(page.read_text()) if found == kind]


def run(site: Site, page: Path, *, before: bool) -> None:
    """Run the blocks of a page in one shell, in a folder that looks like the repository."""
    wanted = blocks(page, before=before)
    # Blocks share variables, as the terminal of a reader does; a mark parts what each printed.
    script = "set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    script += "".join(f"{block.text}\necho '--- end of a block'\n" for block in wanted)
    done = subprocess.run(
        ["bash", "-c", script], cwd=site.folder / "repository", env=site.environ, capture_output=True, text=True,
        check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, f"{page.name}: {script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    for block, printed in zip(wanted, done.stdout.split("--- end of a block\n"), strict=False):
        for text in block.shows:
            assert any(one.strip() in printed for one in text.split("|")), f"{page.name}: no {text!r} in\n{printed}"


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give the demo site with what the pages add to it."""
    folder = tmp_path_factory.mktemp("docs")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/usr/local/bin"
    site = Site(folder, PYTHONPATH=f"{install(folder / 'packages')}:{ROOT}", PATH=path, COLUMNS="200")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "config").symlink_to(site.config)
    for name in ("docs", "scripts", "services"):
        (repository / name).symlink_to(ROOT / name)
    try:
        for page in RUN:
            run(site, page, before=True)
        site.start()
        yield site
    finally:
        site.stop()


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_it_says(documented: Site, page: Path):
    run(documented, page, before=False)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "nginx" / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_row_of_the_original_table_and_every_command_is_there():
    """The troubleshooting guide of the documents this product comes from."""
    text = (DOCS / "troubleshooting.md").read_text()
    for issue in (
        "Script attempted to access nonexistent global variable", "Port already in use", "No data in Redis",
        "Rules not triggering", "Historical data missing",
    ):  # fmt: skip
        assert issue in text
    for command in (
        'hgetall "comsrv:1001:T"', "monitor | grep", "docker logs -f voltageems-comsrv",
        'FCALL model_get 1 "model_001"',
        """influx query 'from(bucket:"ems_data")""", "./scripts/redis-functions/load_functions.sh",
    ):  # fmt: skip
        assert command in text
