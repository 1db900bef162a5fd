"""The gateway as the command line sees it: one request, JSON in and out, our errors."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, BinaryIO, Final
from urllib.parse import urlencode

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from libs.errors import UnauthorizedError, UnavailableError, error_of
from libs.numbers import readable
from libs.site import Site, load_site
from services.commands.caller import caller
from services.commands.token import make_token

TIMEOUT_S: Final = 30.0
JSON: Final = "application/json"
NO_CONTENT: Final = 204
TOKEN_TTL_S: Final = 60
PAGE: Final = 500
# A pipe has no width; what a person greps for must not be cut at the 80 columns rich assumes.
PIPED_WIDTH: Final = 240
UNWRAPPED: Final = 12  # ids, states and numbers stay in one piece; names fold
BORDER: Final = 3  # what a column of a table takes beside its text


def request(
    path: str,
    query: Mapping[str, object] | None = None,
    body: object = None,
    role: str = "viewer",
    method: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Ask the gateway of this site; POST when there is a body and no other method is named.

    Raises:
        UnavailableError: nothing answers.
        VoltageError: what the gateway answered, as our error.
    """
    data = None if body is None else json.dumps(body).encode()
    with _open(path, query, data, {"Content-Type": JSON}, role, method, timeout_s) as reply:
        return json.load(reply) if reply.status != NO_CONTENT else None


def upload(path: str, file: BinaryIO, size: int, media: str, role: str) -> Any:
    """Send a file as it is read; errors as in `request`."""
    with _open(path, None, file, {"Content-Type": media, "Content-Length": str(size)}, role, "POST") as reply:
        return json.load(reply)


@contextmanager
def _open(
    path: str,
    query: Mapping[str, object] | None,
    data: bytes | BinaryIO | None,
    headers: Mapping[str, str],
    role: str,
    method: str | None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[HTTPResponse]:
    site = load_site()
    url = site.settings.service_url("gateway") + path
    given = {name: value for name, value in (query or {}).items() if value is not None}
    if given:
        url += "?" + urlencode(given, doseq=True)
    asked = urllib.request.Request(url, data, method=method)  # noqa: S310 - http only
    asked.add_header("Authorization", f"Bearer {make_token(site.settings, caller(), role, TOKEN_TTL_S)}")
    for name, value in headers.items():
        asked.add_header(name, value)
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as reply:  # noqa: S310 - http only
            yield reply
    except urllib.error.HTTPError as error:
        raise _refused(error, site) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"the gateway at {url} does not answer ({reason}); start it: voltage up") from None


def download(path: str, query: Mapping[str, object], role: str = "viewer") -> Iterator[bytes]:
    """Read an answer that is no JSON, piece by piece; errors as in `request`."""
    with _open(path, query, None, {}, role, None) as reply:
        while piece := reply.read(65536):
            yield piece


def _refused(error: urllib.error.HTTPError, site: Site) -> Exception:
    try:
        problem = json.load(error)
        code, detail = str(problem.get("code")), str(problem.get("detail") or problem.get("title"))
        named = [(one["field"], one["message"]) for one in problem.get("errors", []) if one["message"] != detail]
        more = [f"{field}: {text}" for field, text in named if f"{field} {text}" not in detail]
        detail = "\n".join([detail, *(text for text in more if text not in detail)])
    except ValueError:
        code, detail = "INTERNAL", f"status {error.code}"
    if error.code == 401:
        return UnauthorizedError(f"{detail}; is {site.data_dir} the data directory of the gateway that answers?")
    if error.code == 503:
        return UnavailableError(detail)
    if error.code == 404:
        # The title says it in the answer; a lone "network cloud" says nothing.
        detail = f"not found: {detail}"
    return error_of(code, detail)


def pages(path: str, query: Mapping[str, object], limit: int) -> list[dict[str, Any]]:
    """Follow the cursor of a list until `limit` items."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(items) < limit:
        page = request(path, {**query, "limit": min(PAGE, limit - len(items)), "cursor": cursor})
        items += page["items"]
        cursor = page.get("cursor")
        if not cursor:
            break
    return items


def show(items: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, empty: str) -> None:
    """Print items as JSON lines for programs, or as a table: column title -> dotted field."""
    if as_json:
        for item in items:
            click.echo(json.dumps(item, ensure_ascii=False))
        return
    if not items:
        click.echo(empty)
        return
    rows = [[cell(field(item, path)) for path in columns.values()] for item in items]
    texts = [[title, *column] for title, column in zip(columns, zip(*rows, strict=True), strict=True)]
    shown, table = console(), Table()
    for title, width in zip(columns, _widths(texts, shown.width), strict=True):
        table.add_column(title, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    shown.print(table)


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return how wide each column of a table is: long texts fold, short ones and words stay whole.

    Where not even that has room, all of them give way alike; none is squeezed out.
    """
    room, found = width - BORDER * len(columns) - 1, [1] * len(columns)
    whole = [max(map(_unbroken, texts)) for texts in columns]
    for wanted in (whole, [max(map(cell_len, texts)) for texts in columns]):
        for cap in range(1, max(wanted) + 1):
            wider = [max(low, min(high, cap)) for low, high in zip(found, wanted, strict=True)]
            if sum(wider) > room:
                return found
            found = wider
    return found


def _unbroken(text: str) -> int:
    """Return how wide the longest part of a text is that folds only where there is no room."""
    parts = [text] if cell_len(text) <= UNWRAPPED else text.split()
    return min(UNWRAPPED, max(map(cell_len, parts), default=0))


def console(**options: Any) -> Console:
    """Return a console for tables: what it prints is what it says ("1003:A:1" is no emoji, "[x]" no markup)."""
    found = Console(emoji=False, markup=False, **options)
    return found if found.is_terminal else Console(emoji=False, markup=False, width=PIPED_WIDTH, **options)


def field(item: Any, path: str) -> Any:
    """Return a field by its dotted path, None where it is absent."""
    for step in path.split("."):
        item = item.get(step) if isinstance(item, Mapping) else None
    return item


def cell(value: Any) -> str:
    """Render one cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return readable(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
