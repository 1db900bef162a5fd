"""All channels of this comsrv: declared by files or through the API, kept in Redis, run here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from libs.errors import ConfigurationError, ConflictError, InvalidError, NotFoundError, Problem, UnavailableError
from libs.redis.client import Client, execute
from libs.redis.keys import key
from libs.validation import shortened
from services.comsrv.backoff import Backoff
from services.comsrv.channel import Channel
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.identity import Identity
from services.comsrv.outcomes import Outcomes
from services.comsrv.pulses import Pulses
from services.comsrv.runner import Runner, definition, from_definition
from services.comsrv.sentfile import SentFile
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import check_channel, check_link, load_site

log = logging.getLogger(__name__)

BLOCK_MS: Final = 1000


class Channels:
    """The channels and their runners."""

    def __init__(
        self,
        functions: ComsrvFunctions,
        settings: ComsrvSettings,
        declared: Sequence[Channel],
        identity: Identity,
    ) -> None:
        """Keep what it works with; `declared` are the channels of the files."""
        self.synced = asyncio.Event()
        self.runners: dict[int, Runner] = {}
        self._functions = functions
        self._settings = settings
        self._declared = {channel.id: channel for channel in declared}
        self._owner = identity.owner
        self._sent = SentFile(identity.sent_path)
        self.outcomes = Outcomes()
        self._pulses = Pulses(identity.sent_path.with_suffix(".pulses"))
        self._changing = asyncio.Lock()
        self._ready = False

    async def start(self) -> None:
        """Bring Redis in line with the files, and run every channel that is enabled.

        Waits for Redis as long as it takes.
        """
        backoff = Backoff(200, 5000)
        while True:
            try:
                async with self._changing:
                    stored = await self._sync()
            except UnavailableError as error:
                log.warning("%s", error)
                await backoff.pause()
            else:
                break
        for channel in stored:
            self._run(channel)
        self.synced.set()

    async def stop(self) -> None:
        """Stop every channel in order, all at once."""
        await asyncio.gather(*(runner.stop() for runner in self.runners.values()))
        self._sent.close()

    def runner(self, channel_id: int) -> Runner:
        """Return a channel's runner, or raise NotFoundError."""
        runner = self.runners.get(channel_id)
        if runner is None:
            raise NotFoundError(f"channel {channel_id}")
        return runner

    @property
    def port_base(self) -> int:
        """Where the ports of this site begin."""
        return self._settings.port_base

    async def create(self, channel: Channel) -> dict[str, Any]:
        """Add a channel, keep it in Redis and run it."""
        self._check(channel)
        async with self._changing:
            if channel.id in self.runners:
                raise ConflictError(f"channel {channel.id} exists already")
            # Of one that is changed it is said when it runs: what channels share is changed one after the other.
            used = (runner.channel for runner in self.runners.values() if runner.channel.enabled)
            _refuse(check_link(channel, used, self._settings.port_base))
            document = await self._functions.upsert(definition(channel))
            self._run(channel)
        return document

    async def replace(self, channel: Channel) -> dict[str, Any]:
        """Change a channel, without touching what did not change.

        Other points are taken over while it runs; anything else stops it and runs it again, if it ran.
        """
        self._check(channel)
        async with self._changing:
            old = self.runner(channel.id)
            document = await self._functions.upsert(definition(channel))
            if not await old.change(channel):
                await old.stop()
                self._run(channel)
            elif old.uplink is not None:
                # What was under way for points that are gone may have brought them back.
                await self._functions.upsert(definition(channel))
        return document

    async def delete(self, channel_id: int) -> None:
        """Stop and delete a channel."""
        async with self._changing:
            await self.runner(channel_id).stop()
            del self.runners[channel_id]
            await self._functions.delete(channel_id)

    async def restart(self, channel_id: int) -> None:
        """Stop a channel and run it again."""
        async with self._changing:
            runner = self.runner(channel_id)
            await runner.stop()
            runner.start()

    async def halt(self, channel_id: int) -> None:
        """Stop a channel until it is started again."""
        async with self._changing:
            await self.runner(channel_id).stop()

    async def reload(self, channel_id: int) -> dict[str, Any]:
        """Read a channel's tables, or its definition in Redis, anew and run it with them.

        Raises:
            InvalidError: the tables have problems; the channel goes on as it was.
        """
        runner = self.runner(channel_id)
        if runner.channel.source == "file":
            channel = await asyncio.to_thread(self._read_file, channel_id)
        else:
            channel = from_definition(await self._functions.get(channel_id))
        return await self.replace(channel)

    async def wake(self, blocking: Client) -> None:
        """Wake the channels whose command streams have something new, for ever."""
        after: dict[int, str] = {}
        backoff = Backoff(200, 2000)
        while True:
            running = [number for number, runner in self.runners.items() if runner.running]
            if not running:
                await asyncio.sleep(BLOCK_MS / 1000)
                continue
            names = {self._functions.functions.key(key("command_stream", ch=number)): number for number in running}
            starts = [after.get(number, "$") for number in running]
            try:
                reply = await execute(blocking, "XREAD", "BLOCK", BLOCK_MS, "STREAMS", *names, *starts)
            except UnavailableError:
                await backoff.pause()
                continue
            backoff.reset()
            for name, entries in _streams(reply):
                number = names[name]
                after[number] = entries
                if number in self.runners:
                    self.runners[number].wake()

    def waiting(self) -> list[int]:
        """Return the channels that have blocks without a first attempt; once there were none, none."""
        if not self._ready:
            waiting = [
                number for number, runner in self.runners.items() if runner.running and not runner.attempted.is_set()
            ]
            self._ready = not waiting
            return waiting
        return []

    def _run(self, channel: Channel) -> None:
        runner = Runner(channel, self._functions, self._settings, self._owner, self._sent, self._pulses, self.outcomes)
        self.runners[channel.id] = runner
        if channel.enabled:
            runner.start()

    def _check(self, channel: Channel) -> None:
        _refuse(check_channel(channel, self._settings.port_base))

    def _read_file(self, channel_id: int) -> Channel:
        try:
            site = load_site(self._settings.config_dir, self._settings)
        except ConfigurationError as error:
            raise InvalidError(str(error).splitlines()[0], error.problems) from None
        found = next((channel for channel in site if channel.id == channel_id), None)
        if found is None:
            raise NotFoundError(f"channel {channel_id} is in no file")
        return found

    async def _sync(self) -> list[Channel]:
        """Write the files' channels to Redis, take out those that left the files; return all there are."""
        stored = {document["id"]: document for document in await self._functions.all()}
        channels = dict(self._declared)
        for channel_id, document in stored.items():
            if channel_id in channels:
                continue
            if document.get("source") == "file":
                log.info("channel %s is in no file any more: deleted", channel_id)
                await self._functions.delete(channel_id)
                continue
            try:
                channel = from_definition(document)
                self._check(channel)
            except (InvalidError, ValueError) as error:
                log.error("channel %s in Redis does not run: %s", channel_id, error)  # noqa: TRY400 - the text says it all
                continue
            channels[channel_id] = channel
        for channel_id, channel in self._declared.items():
            document = definition(channel)
            if stored.get(channel_id) != document:
                await self._functions.upsert(document)
        return list(channels.values())


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise InvalidError(shortened(problems), problems)


def _streams(reply: Any) -> list[tuple[str, str]]:
    """Return (stream, last entry id) of an XREAD reply; None means nothing came in time."""
    if not reply:
        return []
    pairs = reply.items() if isinstance(reply, dict) else reply
    found = []
    for name, batches in pairs:
        entries = batches[0] if batches and isinstance(batches[0], list) else batches
        found.append((name.decode(), entries[-1][0].decode()))
    return found
