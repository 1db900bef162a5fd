"""Every module stands alone, and none grows past reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MAX_LINES: Final = 500
MODULES: Final = sorted(
    path.relative_to(ROOT) for folder in ("libs", "services") for path in (ROOT / folder).rglob("*.py")
)
LUA: Final = sorted(path.relative_to(ROOT) for path in (ROOT / "redis_functions").rglob("*.lua"))
GENERATED: Final = {"redis_functions/lib/keys.lua"}
EMPTY_NAMES: Final = {"utils", "helpers", "common", "misc", "manager"}


def test_modules_import_alone() -> None:
    """Each of libs, and each service's entry and settings: no order is needed, and importing connects to nothing."""
    entries = {"app.py", "settings.py", "cli.py"}
    names = [
        ".".join(path.with_suffix("").parts)
        for path in MODULES
        if path.name != "__init__.py" and (path.parts[0] == "libs" or path.name in entries)
    ]
    script = (
        "import importlib, os, sys\n"
        "for name in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(f'{name}: {error!r}', flush=True)\n"
        "            os._exit(1)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    # Other people's packages are loaded first, so that a fork costs milliseconds.
    preload = (
        "import aiohttp.web, argon2, click, jwt, msgpack, numpy, orjson, prometheus_client, pyarrow.parquet\n"
        "import pydantic, pymodbus.client, pymodbus.server, redis.asyncio, rich.table, uvloop, yaml\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", preload + script, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stdout + done.stderr


def test_files_are_short() -> None:
    """A file over 400 lines asks to be two; at 500 it must be."""
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in [*MODULES, *LUA]}
    assert [name for name, length in lengths.items() if length > MAX_LINES and name not in GENERATED] == []


def test_file_names_say_what_is_inside() -> None:
    """No utils, helpers, common, misc or manager."""
    assert [str(path) for path in [*MODULES, *LUA] if path.stem in EMPTY_NAMES] == []
