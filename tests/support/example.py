"""The example protocol of docs/, installed for tests as `pip install` would: files and an entry point on the path."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "textline"


def install(folder: Path, package: Path = EXAMPLE) -> Path:
    """Put a package into a folder that may stand on the module path; return the folder."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    described = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["voltage.protocols"]
    (described / "entry_points.txt").write_text(
        "[voltage.protocols]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
    )
    for module in package.glob("voltage_*.py"):
        shutil.copy(module, folder)
    return folder
