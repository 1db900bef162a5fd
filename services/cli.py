"""`voltage`: the one command of the product.

Commands are imported when they are called, so that `voltage --help` and the
small ones start at once. An error is one clear line and the remedy, never a
traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final, NamedTuple

import click

from libs.errors import UnavailableError, VoltageError
from services.commands.caller import as_user

EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_INTERRUPTED: Final = 130


class Entry(NamedTuple):
    """Where a command is, and its line of help, given here so that help imports nothing."""

    place: str
    help: str


COMMANDS: Final = {
    "up": Entry("services.commands.up:up", "Start everything of this site; Ctrl-C stops it."),
    "serve": Entry("services.commands.serve:serve", "Run one service, or several in one process."),
    "functions": Entry("services.commands.functions:functions", "Load, check, list, bundle or call the functions."),
    "config": Entry("services.commands.config:config", "Show, check, plan, apply or roll back the configuration."),
    "points": Entry("services.commands.points:points", "Check the point tables, or show how they are polled."),
    "modbus": Entry("services.commands.modbus:modbus", "Look into a Modbus device: read, write, scan."),
    "protocols": Entry("services.commands.protocols:protocols", "Protocols that are installed, or a skeleton of one."),
    "library": Entry("services.commands.library:library", "Register maps of devices, and channels made of them."),
    "simulate": Entry("services.commands.simulate:simulate", "Run simulated devices: a site, or any point tables."),
    "channels": Entry("services.commands.read:channels", "Channels, or the points of one."),
    "models": Entry("services.commands.definitions:models", "Models, the values of one, and their versions."),
    "alarms": Entry("services.commands.alarms:alarms", "Open alarms, and their journal."),
    "audit": Entry("services.commands.audit:audit", "Verify that the journal of alarms was not changed."),
    "rules": Entry("services.commands.rules:rules", "Rules: why one fired or not, what it did, versions."),
    "mappings": Entry("services.commands.definitions:mappings", "What is recorded, and the versions of that."),
    "history": Entry("services.commands.history:history", "Past values of points; export, import, copy."),
    "replay": Entry("services.commands.replay:replay", "Make the recorded past again, and compare the journals."),
    "backtest": Entry("services.commands.replay:backtest", "What a rule or alarm definition would have done."),
    "ledger": Entry("services.commands.ledger:ledger", "Where every sample is: by channel, mapping and store."),
    "networks": Entry("services.commands.networks:networks", "Where points are forwarded to, and what waits."),
    "commands": Entry("services.commands.read:commands", "Commands sent to devices, newest first."),
    "modbus-server": Entry("services.commands.modbus_server:modbus_server", "What SCADA reads from the site."),
    "doctor": Entry("services.commands.doctor:doctor", "Say what is wrong here, and what to do about it."),
    "backup": Entry("services.commands.backup:backup", "Copy the whole site into a file while it runs."),
    "restore": Entry("services.commands.backup:restore", "Make a site of such a file, where there is none."),
    "logs": Entry("services.commands.logs:logs", "Show a service's log; -f follows it."),
    "token": Entry("services.commands.token:token", "Make an API token."),
    "link": Entry("services.commands.link:link", "Print a link that logs a person in, once."),
    "redis-url": Entry("services.commands.redis:redis_url", "Print the address of the site's Redis."),
    "redis": Entry("services.commands.redis:redis", "Run a Redis command, without redis-cli."),
    "redis-server": Entry("services.commands.redis_server:redis_server", "Run the site's Redis alone, for systemd."),
    "install-service": Entry(
        "services.commands.install_service:install_service", "Write systemd units, for machines without Docker."
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in their order of use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - a slip in the table above
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, keeping the name it was called by."""
        name, command, rest = super().resolve_command(ctx, args)
        return args[0] if command else name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="voltageems", prog_name="voltage")
@as_user
def voltage() -> None:
    """A data layer for energy sites. Begin with: voltage up."""


def main() -> None:
    """Run the command line; the entry point of `voltage`."""
    try:
        code = voltage.main(prog_name="voltage", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) had enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except VoltageError as error:
        click.echo(f"voltage: {error}", err=True)
        code = exit_code(error)
    sys.exit(code)


def exit_code(error: VoltageError) -> int:
    """Return the exit code for an error: 78 for configuration, 69 for something away, else 1."""
    if isinstance(error, UnavailableError):
        return EXIT_UNAVAILABLE
    return int(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
