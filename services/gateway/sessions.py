"""Log-in, renewal and log-out, and the trail they leave."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from libs.errors import LimitError, UnauthorizedError, UnavailableError
from libs.http.tokens import issue
from services.gateway.accounts import Account, Accounts
from services.gateway.functions import GatewayFunctions
from services.gateway.passwords import Passwords
from services.gateway.ratelimit import RateLimit
from services.gateway.settings import SessionSettings

logger = logging.getLogger(__name__)

# Per name and address, so that a stranger can't lock an operator out; and per address alone.
BURST: Final = 6
INTERVAL_S: Final = 10.0
ADDRESS_BURST: Final = 60
ADDRESS_INTERVAL_S: Final = 1.0


class Grant(NamedTuple):
    """A log-in: whose, and its two tokens."""

    account: Account
    access: str
    refresh: str


class Audit:
    """Who logged in and what changed of users: a log line always, a stream entry when Redis is there."""

    def __init__(self, functions: GatewayFunctions) -> None:
        """Keep where entries go."""
        self._functions = functions

    async def write(self, action: str, user: str, **details: str) -> None:
        """Write an entry. Redis being away stops no log-in: operators must get in just then."""
        logger.info("audit %s by %s %s", action, user, details)
        try:
            await self._functions.audit(action, user, **details)
        except UnavailableError as error:
            logger.warning("audit entry only in this log: %s", error)


class Sessions:
    """Turns proofs (a password, a link, a refresh token) into tokens."""

    def __init__(self, accounts: Accounts, key: str, settings: SessionSettings, audit: Audit) -> None:
        """Keep the accounts, the signing key and the trail."""
        self.accounts = accounts
        self.passwords = Passwords()
        self._key = key
        self._settings = settings
        self._audit = audit
        self._by_name = RateLimit(INTERVAL_S, BURST)
        self._by_address = RateLimit(ADDRESS_INTERVAL_S, ADDRESS_BURST)

    async def by_password(self, name: str, password: str, address: str) -> Grant:
        """Log in by name and password.

        Raises:
            UnauthorizedError: they do not fit; whether the name exists is not told.
            LimitError: too many tries.
        """
        who = f"{name} {address}"
        try:
            self._by_address.take(address)
            self._by_name.take(who)
        except LimitError:
            await self._audit.write("login_limited", name, address=address)
            raise
        account = await asyncio.to_thread(self.accounts.find, name)
        fits = await self.passwords.check(account.password if account else None, password)
        if account is None or not fits or account.disabled:
            await self._audit.write("login_refused", name, address=address)
            raise UnauthorizedError("name and password do not fit")
        self._by_name.forgive(who)
        return await self._grant(account, "password", address)

    async def by_link(self, link: str, address: str) -> Grant:
        """Log in by a one-time link, which is used up."""
        self._by_address.take(address)
        try:
            account = await asyncio.to_thread(self.accounts.redeem_link, link)
        except UnauthorizedError:
            await self._audit.write("link_refused", "", address=address)
            raise
        return await self._grant(account, "link", address)

    async def _grant(self, account: Account, how: str, address: str) -> Grant:
        refresh = await asyncio.to_thread(self.accounts.start_session, account.name, self._settings.refresh_ttl_s)
        await self._audit.write("login", account.name, how=how, role=account.role.value, address=address)
        return Grant(account, self._access(account), refresh)

    def _access(self, account: Account) -> str:
        return issue(self._key, account.name, account.role, self._settings.access_ttl_s)

    async def refresh(self, token: str, address: str) -> Grant:
        """Return a new access token for a session, which lasts on from now."""
        self._by_address.take(address)
        account = await asyncio.to_thread(self.accounts.use_session, token, self._settings.refresh_ttl_s)
        return Grant(account, self._access(account), token)

    async def end(self, token: str | None, user: str) -> None:
        """Log out: the refresh token is worth nothing from now on."""
        if token:
            await asyncio.to_thread(self.accounts.end_session, token)
        await self._audit.write("logout", user)
