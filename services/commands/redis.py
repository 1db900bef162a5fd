"""`voltage redis-url` and `voltage redis`."""

from __future__ import annotations

import sys

import click

from libs.redis.resp import Connection, ReplyError
from libs.site import load_site


@click.command("redis-url")
def redis_url() -> None:
    """Print the address of the site's Redis, with user and password."""
    click.echo(load_site().redis_url())


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def redis(arguments: tuple[str, ...]) -> None:
    """Run a Redis command: voltage redis hgetall comsrv:1001:T.

    Replies read as in redis-cli. SUBSCRIBE, PSUBSCRIBE and MONITOR go on until Ctrl-C.
    """
    with Connection(load_site().redis_url(), timeout_s=30.0) as connection:
        try:
            click.echo(readable(connection.call(*arguments), pairs=arguments[0].lower() in {"hgetall", "config"}))
            if arguments[0].lower() in {"subscribe", "psubscribe", "monitor"}:
                follow(connection)
        except ReplyError as error:
            click.echo(f"(error) {error}", err=True)
            sys.exit(1)


def follow(connection: Connection) -> None:
    """Print what the server sends on its own, until the user had enough."""
    try:
        while True:
            reply = connection.next(None)
            # A message is [kind, channel, payload]; people want the last two.
            if isinstance(reply, list) and reply and reply[0] in {b"message", b"pmessage"}:
                click.echo(" ".join(text(part) for part in reply[-2:]))
            else:
                click.echo(readable(reply))
    except KeyboardInterrupt:
        click.echo()


def text(value: object) -> str:
    """Render a bulk reply; bytes that are no text as escapes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def readable(reply: object, *, pairs: bool = False, indent: str = "") -> str:
    """Render a reply as redis-cli does, hashes as one `field: value` a line."""
    if not isinstance(reply, list):
        return _single(reply)
    if not reply:
        return "(empty)"
    if pairs and len(reply) % 2 == 0:
        width = max(len(text(field)) for field in reply[::2])
        return "\n".join(
            f"{text(field):<{width}}  {text(value)}" for field, value in zip(reply[::2], reply[1::2], strict=True)
        )
    lines: list[str] = []
    for number, item in enumerate(reply, 1):
        head = f"{number:>{len(str(len(reply)))}}) "
        lines.append((indent if lines else "") + head + readable(item, indent=indent + " " * len(head)))
    return "\n".join(lines)


def _single(reply: object) -> str:
    if reply is None:
        return "(nil)"
    if isinstance(reply, int):
        return f"(integer) {reply}"
    return f"(error) {reply}" if isinstance(reply, Exception) else text(reply)
