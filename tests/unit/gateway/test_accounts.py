import stat
from pathlib import Path

import pytest

from libs.errors import ConflictError, StateError, UnauthorizedError
from libs.http.tokens import Role
from services.gateway import links
from services.gateway.accounts import FILE, Accounts


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def test_a_link_makes_the_first_administrator_and_works_once(tmp_path: Path, accounts: Accounts):
    link = links.create(tmp_path)
    account = accounts.redeem_link(link)
    assert (account.name, account.role, account.password) == ("admin", Role.ADMIN, None)
    with pytest.raises(UnauthorizedError, match="used already"):
        accounts.redeem_link(link)


def test_an_expired_link_is_refused_and_used_up(tmp_path: Path, accounts: Accounts):
    with pytest.raises(UnauthorizedError):
        accounts.redeem_link(links.create(tmp_path, ttl_s=0))
    assert accounts.users() == []


def test_the_file_is_the_owners_and_holds_no_token(tmp_path: Path, accounts: Accounts):
    link = links.create(tmp_path)
    accounts.redeem_link(link)
    session = accounts.start_session("admin", 60)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert link.encode() not in file.read_bytes()
    assert session.encode() not in file.read_bytes()


def test_a_link_takes_the_role_the_user_has(tmp_path: Path, accounts: Accounts):
    accounts.create("anna", Role.VIEWER, None)
    assert accounts.redeem_link(links.create(tmp_path, user="anna", role="admin")).role is Role.VIEWER


def test_a_session_lasts_until_it_is_ended(accounts: Accounts):
    accounts.create("anna", Role.OPERATOR, None)
    token = accounts.start_session("anna", 60)
    assert accounts.use_session(token, 60).name == "anna"
    accounts.end_session(token)
    with pytest.raises(UnauthorizedError):
        accounts.use_session(token, 60)


@pytest.mark.parametrize("change", [{"role": Role.VIEWER}, {"password": "hash"}, {"disabled": True}])
def test_a_change_of_rights_ends_the_sessions(accounts: Accounts, change: dict[str, object]):
    accounts.create("anna", Role.OPERATOR, None)
    token = accounts.start_session("anna", 60)
    accounts.change("anna", **change)  # type: ignore[arg-type]
    with pytest.raises(UnauthorizedError):
        accounts.use_session(token, 60)


def test_the_last_administrator_stays(accounts: Accounts):
    accounts.create("root", Role.ADMIN, None)
    for attempt in (
        lambda: accounts.delete("root"),
        lambda: accounts.change("root", role=Role.ENGINEER),
        lambda: accounts.change("root", disabled=True),
    ):
        with pytest.raises(StateError, match="last administrator"):
            attempt()
    assert accounts.get("root").role is Role.ADMIN
    accounts.create("other", Role.ADMIN, None)
    accounts.delete("root")


def test_a_name_is_taken_once(accounts: Accounts):
    accounts.create("anna", Role.VIEWER, None)
    with pytest.raises(ConflictError):
        accounts.create("anna", Role.ADMIN, None)
