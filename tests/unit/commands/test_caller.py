"""Whose name the command line gives."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from libs.http.tokens import Role, User, verify
from services.cli import voltage
from services.commands.caller import as_user, caller

KEY = "a key of this test that is long enough"


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("VOLTAGE_TOKEN_KEY", KEY)


def token(*arguments: str) -> Result:
    return CliRunner().invoke(voltage, arguments)


@pytest.mark.parametrize("arguments", [("--user", "anna", "token"), ("token", "--user", "anna")])
def test_a_name_is_given_before_or_behind_the_command(arguments: tuple[str, ...]) -> None:
    assert verify(KEY, token(*arguments).output.strip()) == User("anna", Role.VIEWER)


def test_without_a_name_it_is_the_login_name_and_no_variable_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody_else")
    try:
        login = os.getlogin()
    except OSError:
        login = pwd.getpwuid(os.getuid()).pw_name
    assert verify(KEY, token("token").output.strip()).name == login


@pytest.mark.parametrize("name", ["file:anna", "two words", "", "a" * 65])
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    refused = token("token", "--user", name)
    assert refused.exit_code == 2
    assert "must be one word" in refused.output


@click.command
@as_user
def threaded() -> None:
    click.echo(asyncio.run(asyncio.to_thread(caller)))


def test_a_thread_that_asks_the_api_knows_the_name_too_and_the_next_command_does_not() -> None:
    assert CliRunner().invoke(threaded, ["--user", "anna"]).output == "anna\n"
    assert CliRunner().invoke(threaded).output not in ("", "anna\n")
