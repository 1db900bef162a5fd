"""Peers that are told of alarms."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.mail import MailServer, mail_server
from tests.support.notify import Hook


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    peer = Hook()
    app = web.Application()
    app.router.add_post("/alarms", peer.take)
    async with TestServer(app) as server:
        peer.url = str(server.make_url("/alarms"))
        yield peer


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as peer:
        yield peer
