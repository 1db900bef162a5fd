"""`voltage history`: past values, and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from libs.errors import InvalidError
from libs.http.bodies import UPLOADS
from services.commands.api import download, request, show, upload
from services.commands.jobs import follow
from services.commands.read import as_json, limited, timed, when

MEDIA: Final = {form: media for media, form in UPLOADS.items()}
SHOW: Final = "show"


class History(click.Group):
    """A group whose first word may be a reference: then it is `show`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        if args and args[0] not in self.commands:
            args = [SHOW, *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take options before a reference for those of `show`."""
        if args and args[0].startswith("-") and args[0] != "--help":
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


@click.group(cls=History)
def history() -> None:
    """Past values of points: voltage history comsrv:1001:T:1 --interval 1m; and files of them."""


def quality_of(code: object) -> object:
    """Render a quality of the history: its upper two bits are those of OPC."""
    if not isinstance(code, int):
        return code
    return {0xC0: "good", 0x40: "uncertain", 0: "bad"}.get(code & 0xC0, code)


@history.command(SHOW)
@click.argument("refs", nargs=-1, required=True)
@click.option("--start", default="-15m", show_default=True, help="RFC 3339, Unix milliseconds, now, or -5m.")
@click.option("--end", default="now", show_default=True)
@click.option("--interval", help="Width of an interval, as 1m, 1h, 1d, 1mo; without it, every sample.")
@click.option("--aggregate", help="mean (of an interval where none is named), min, max, sum, count, first, last, ...")
@click.option("--zone", help="Days and months of this time zone, as Europe/Berlin; else of UTC.")
@click.option(
    "--fill", type=click.Choice(["none", "null", "previous", "linear"]), help="For intervals without a value."
)
@limited
@as_json
def show_values(
    refs: tuple[str, ...], start: str, end: str, interval: str | None, aggregate: str | None, zone: str | None,
    fill: str | None, limit: int, as_json: bool,
) -> None:  # fmt: skip
    """Show past values."""
    body: dict[str, object] = {"series": list(refs), "start": start, "end": end, "limit": limit}
    given = {"interval": interval, "aggregate": aggregate, "zone": zone, "fill": fill}
    body |= {name: value for name, value in given.items() if value}
    answer = request("/api/history/query", body=body)
    items = [
        {"at_ms": point[0], "ref": series["ref"], "value": point[1], "quality": point[2], "unit": series.get("unit")}
        for series in answer["series"]
        for point in series["points"]
    ]
    if not as_json:
        items = [item | {"quality": quality_of(item["quality"])} for item in timed(items, when, "at_ms")]
    columns = {"time": "at_ms", "point": "ref", "value": "value", "unit": "unit", "quality": "quality"}
    show(items, columns, as_json=as_json, empty="no data in that time")


@history.command("export")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--series", multiple=True, help="Pattern over references, as comsrv:1001:*; all without it.")
@click.option("--start", default="0", help="RFC 3339, Unix milliseconds, now, or -5m; else from the beginning.")
@click.option("--end", default="now", show_default=True)
def export(target: Path, series: tuple[str, ...], start: str, end: str) -> None:
    """Write samples to TARGET, a .csv or .parquet file."""
    form = _form(target)
    if target.exists():
        raise InvalidError(f"{target} exists; name another file")
    body = {"series": list(series) or None, "start": start, "end": end, "format": form}
    result = follow(request("/api/history/export", body=body, role="operator"))
    path = f"/api/history/exports/{result['file']}"
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            for piece in download(path, {}, role="operator"):
                file.write(piece)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    request(path, role="operator", method="DELETE")
    click.echo(f"{target}: {result['samples']} samples of {result['series']} series, {result['bytes']} bytes")


@history.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(source: Path) -> None:
    """Read samples from SOURCE, a .csv or .parquet file with series, at_ms or time, and value."""
    media = MEDIA[_form(source)]
    with source.open("rb") as file:
        job = upload("/api/history/import", file, source.stat().st_size, media, role="engineer")
    try:
        result = follow(job)
    except InvalidError as error:
        # What it is called there says nothing here.
        raise InvalidError(str(error).replace(job["input"]["file"], str(source))) from None
    click.echo(f"{result['samples']} samples read from {source}; the same file again changes nothing")


@history.command("copy")
@click.option("--from", "source", type=click.Choice(["embedded", "server"]), required=True)
@click.option("--to", "target", type=click.Choice(["embedded", "server"]), required=True)
@click.option("--series", multiple=True, help="Pattern over references, as comsrv:1001:*; all without it.")
@click.option("--start", default="0", help="RFC 3339, Unix milliseconds, now, or -5m; else from the beginning.")
@click.option("--end", default="now", show_default=True)
def copy(source: str, target: str, series: tuple[str, ...], start: str, end: str) -> None:
    """Copy samples between two stores that are kept at once (VOLTAGE_INFLUXDB_BESIDE=true)."""
    body = {"series": list(series) or None, "start": start, "end": end, "from": source, "to": target}
    result = follow(request("/api/history/copy", body=body, role="engineer"))
    click.echo(f"{result['samples']} samples of {result['series']} series are in both")


def _form(path: Path) -> str:
    form = path.suffix.removeprefix(".").lower()
    if form not in MEDIA:
        raise InvalidError(f"{path} ends with neither .csv nor .parquet")
    return form
