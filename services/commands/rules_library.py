"""`voltage rules library`: energy rules that are ready, with their parameters."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Final

import click

from libs.config.desired import read_desired
from libs.errors import ConfigurationError, ConflictError, InvalidError, NotFoundError
from libs.site import load_site
from services.commands.api import request, show
from services.commands.config_files import ask, show_changes
from services.rulesrv.library import Template, Value, read_template, render, templates, values_of
from services.rulesrv.schemas import Rule
from services.rulesrv.windows import Calendar

WIDTH: Final = 110


@click.group()
def library() -> None:
    """List the library of energy rules, look at a template, or make rules of one."""


@library.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
def list_templates(as_json: bool) -> None:
    """List the templates."""
    config = load_site().config_dir
    rows = [{"template": name, **_about(read_template(config, name))} for name in templates(config)]
    columns = {"template": "template", "what": "name", "purpose": "purpose"}
    show(rows, columns, as_json=as_json, empty="The library is empty.")


@library.command("show")
@click.argument("template")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def show_template(template: str, as_json: bool) -> None:
    """Show what a template does, where that is from, and its parameters."""
    found = read_template(load_site().config_dir, template)
    parameters = [{"name": name, **one.model_dump(exclude_none=True)} for name, one in found.parameters.items()]
    if as_json:
        show([{"template": template, **_about(found), "parameters": parameters}], {}, as_json=True, empty="")
        return
    click.echo(f"{found.name}: {found.purpose}\n\n{found.notes}\nSource: {found.source}\n")
    columns = {"parameter": "name", "default": "default", "unit": "unit", "from": "min", "to": "max"}
    show(parameters, columns | {"what": "description"}, as_json=False, empty="no parameters")


@library.command()
@click.argument("template")
@click.option("--as", "name", help="Begins the ids of the rules, and names the file; the template's without it.")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A parameter.")
@click.option("--replace", is_flag=True, help="Write over rules that were made so before.")
@click.option("--dry-run", is_flag=True, help="Print the file, and write nothing.")
@click.option("--apply", is_flag=True, help="Bring it to the running site at once.")
@click.option("--reason", help="It is kept with the versions of the rules.")
def add(
    template: str,
    name: str | None,
    given: tuple[str, ...],
    replace: bool,
    dry_run: bool,
    apply: bool,
    reason: str | None,
) -> None:
    """Make rules of a template: a file in config/rules."""
    config, name = load_site().config_dir, name or template
    found = read_template(config, template)
    values = values_of(found, _pairs(given))
    text, rules = render(found, name, values)
    text = _head(template, name, found, values, given) + text
    if dry_run:
        click.echo(text, nl=False)
        return
    path = config / "rules" / f"{name}.yaml"
    _write(path, text, replace=replace)
    click.echo(f"{path}: {', '.join(str(rule.id) for rule in rules)}")
    if not apply:
        click.echo("See what it will do: voltage config plan. Run it: voltage config apply.")
        return
    why = reason or f"library {template}"
    show_changes(ask("apply", {"reason": why}), as_json=False, made=True)
    _say_missing(found, values)


def _about(template: Template) -> dict[str, Any]:
    return template.model_dump(include={"name", "purpose", "source", "notes"})


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(one.partition("=")[::2] for one in given)
    if missing := [one for one in given if "=" not in one]:
        raise InvalidError(f"--set {missing[0]!r} must be NAME=VALUE")
    return pairs


def _head(template: str, name: str, found: Template, values: dict[str, Value], given: tuple[str, ...]) -> str:
    told = "".join(f" --set {one}" for one in given)
    said = ", ".join(
        f"{key}={value:.15g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )
    lines = [
        f"{found.name}. {found.purpose}",
        f"Made of the library, with {said}.",
        f"Another time: voltage rules library add {template} --as {name}{told} --replace",
    ]
    return "".join(f"# {part}\n" for line in lines for part in textwrap.wrap(line, WIDTH)) + "\n"


def _write(path: Path, text: str, *, replace: bool) -> None:
    before = path.read_text("utf-8") if path.exists() else None
    if before is not None and before != text and not replace:
        raise ConflictError(f"{path} exists; --replace writes over it, --as gives another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    try:
        read_desired(path.parent, {"calendars": Calendar, "rules": Rule})
    except ConfigurationError:
        # As with an id that another file has: nothing is left half done.
        if before is None:
            path.unlink()
        else:
            path.write_text(before, "utf-8")
        raise


def _say_missing(template: Template, values: dict[str, Value]) -> None:
    """Say which models the rules wait for: one that is called otherwise on this site never comes."""
    named = {str(values[name]) for name, one in template.parameters.items() if one.kind == "model"}
    for model in sorted(named):
        try:
            request(f"/api/models/{model}")
        except NotFoundError:
            click.echo(f"This site has no model {model}; the rules wait for it. What there is: voltage models")
