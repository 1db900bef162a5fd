"""`voltage protocols`: what is installed, and a skeleton for one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from libs.errors import ConflictError, InvalidError, NotFoundError
from services.commands.api import show
from services.comsrv.plugins.registry import protocols as installed

# In the wheel, and in a checkout: the example of docs/new-protocol.md.
SKELETONS: Final = (
    Path(__file__).parent / "skeleton",
    Path(__file__).parents[2] / "docs" / "examples" / "textline",
)
NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,31}")


@click.group()
def protocols() -> None:
    """List the protocols that are installed, or begin one of your own."""


@protocols.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
def list_protocols(as_json: bool) -> None:
    """List the protocols with what they can do."""
    rows = [
        {"protocol": name, "description": plugin.description, **plugin.capabilities._asdict(), "class": plugin.__name__}
        for name, plugin in installed().items()
    ]
    columns = {
        "protocol": "protocol", "description": "description", "writes": "writes", "pushes": "subscribes",
        "set over the API": "settable",
    }  # fmt: skip
    show(rows, columns, as_json=as_json, empty="No protocol is installed.")


@protocols.command()
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), help="Folder to make; ./voltage-NAME without it.")
def new(name: str, into: Path | None) -> None:
    """Write a package with a protocol that works, a device to try it on, and its conformance test."""
    if not NAME.fullmatch(name):
        raise InvalidError(f"{name!r} must be 2 to 32 of a-z, 0-9 and _, a letter first")
    if name in installed():
        raise ConflictError(f"there is a protocol {name} already")
    folder = into or Path(f"voltage-{name}")
    if folder.exists():
        raise ConflictError(f"{folder} exists already")
    folder.mkdir(parents=True)
    for source in sorted(_skeleton().iterdir()):
        if source.suffix in {".py", ".toml"}:
            (folder / _renamed(source.name, name)).write_text(_renamed(source.read_text("utf-8"), name), "utf-8")
    for path in sorted(folder.iterdir()):
        click.echo(path)
    click.echo(
        f"It speaks lines of text; put your device's words in their place.\nTry it: pip install -e {folder}[test]"
    )
    click.echo(f"        cd {folder} && python -m pytest")


def _skeleton() -> Path:
    found = next((folder for folder in SKELETONS if folder.is_dir()), None)
    if found is None:
        raise NotFoundError("the skeleton is not part of this installation")
    return found


def _renamed(text: str, name: str) -> str:
    """Return text of the example with another protocol's name."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    for old, new_one in (
        ("voltage_textline", f"voltage_{name}"), ("voltage-textline", f"voltage-{name.replace('_', '-')}"),
        ("TextLine", camel), ("textline", name),
    ):  # fmt: skip
        text = text.replace(old, new_one)
    return text
