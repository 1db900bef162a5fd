"""The order in which a site starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from libs.errors import ConfigurationError, Problem, UnavailableError, VoltageError
from libs.processes.lock import site_lock
from libs.redis import library, server
from libs.redis.client import Client, connect
from libs.redis.functions import Functions
from libs.redis.reports import Reporter, Trouble
from libs.services import SERVICES, port_of
from libs.site import Site, private_directory, write_private
from libs.tasks import cancel
from services.supervisor.child import Child
from services.supervisor.console import View
from services.supervisor.health import all_of, redis_health
from services.supervisor.keeper import Keeper, RefusedError
from services.supervisor.redis_disk import RedisDisk
from services.supervisor.reports import Restarts

START_TIMEOUT_S: Final = 60.0
# Together under the 10 s that stopping may take.
SERVICES_GRACE_S: Final = 6.0
REDIS_GRACE_S: Final = 3.0
# A full disk or a large AOF can hold Redis for seconds; killing it then would make things worse.
REDIS_MISSES: Final = 15
FUNCTIONS_INTERVAL_S: Final = 1.0
PROGRAM: Final = (sys.executable, "-m", "services.cli")
SIMULATOR: Final = "simulator"
SINGLE: Final = "services"


class Options:
    """What the command line chose."""

    def __init__(self, *, single_process: bool = False, restart: bool = True, without: Sequence[str] = ()) -> None:
        """Keep it; `without` are services that are not started here."""
        self.single_process = single_process
        self.restart = restart
        self.without = frozenset(without)


class Supervisor:
    """One site, running."""

    def __init__(self, site: Site, options: Options, view: View, link: Callable[[Site], str]) -> None:
        """Keep the parts; `link` makes the one-time address of the page once the gateway is there."""
        self._site = site
        self._options = options
        self._view = view
        self._link = link
        self._redis: Keeper | None = None
        self._keepers: list[Keeper] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._linked = False
        self._failure: asyncio.Future[BaseException]

    async def run(self) -> None:
        """Run the site until SIGTERM, SIGINT or SIGHUP; everything is stopped on the way out.

        Raises:
            ConflictError: the site runs already.
            ConfigurationError: something can't start as it is configured.
            UnavailableError: no Redis.
        """
        private_directory(self._site.data_dir)
        private_directory(self._site.logs_dir)
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        with site_lock(self._site.data_dir):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, self._signaled)
            starting = asyncio.create_task(self._start())
            stopping = asyncio.create_task(self._stop.wait())
            try:
                self._site.last_words.unlink(missing_ok=True)
                await self._until(starting, stopping)
                await self._until(stopping)
            except VoltageError as error:
                write_private(self._site.last_words, str(error))
                raise
            finally:
                starting.cancel()
                stopping.cancel()
                self._view.calm()
                await self._end()

    def _signaled(self) -> None:
        if self._stop.is_set():
            # Asked twice: whoever presses Ctrl-C again wants it now.
            for keeper in [*self._keepers, *([self._redis] if self._redis else [])]:
                keeper.child.send(signal.SIGKILL)
        self._stop.set()

    async def _until(self, *events: asyncio.Task[object]) -> None:
        """Wait for one of the events; a keeper that fails fails the site."""
        waited: set[asyncio.Future[Any]] = {*events, self._failure}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            raise self._failure.result()
        for event in events:
            if event.done():
                event.result()

    async def _start(self) -> None:
        started = time.monotonic()
        checking = asyncio.create_task(self._check_configuration())
        try:
            await self._start_redis()
            await self._load_functions()
            await checking
        finally:
            checking.cancel()
        self._spawn(self._look_after_redis())
        self._start_services()
        await self._wait_ready(started)
        if not self._stop.is_set():
            self._show_link()
            self._view.summary(self._site, self._redis, self._keepers)

    def _show_link(self, *, when_ready: bool = False) -> None:
        """Print the page's link, once; a person may look while the rest still starts."""
        gateways = [keeper for keeper in self._keepers if keeper.name in {"gateway", SINGLE}]
        if gateways and not self._linked and (gateways[0].health.alive or not when_ready):
            self._linked = True
            self._view.link(self._link(self._site))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_result(error)

    async def _start_redis(self) -> None:
        site = self._site
        if site.settings.redis.url:
            found = await asyncio.to_thread(server.probe, site.settings.redis.url)
            self._view.say(f"Redis: {found} (VOLTAGE_REDIS_URL)")
            return
        binary = server.find_binary(site.settings.redis.server)
        file = server.configure(site)
        self._view.say(f"Redis: {binary} on 127.0.0.1:{site.redis_port}, data in {site.redis_dir}")
        child = Child("redis", [str(binary.path), str(file)], site.environment(), site.logs_dir)
        url = site.redis_url()
        self._redis = Keeper(child, lambda: redis_health(url), self._view.say, misses=REDIS_MISSES)
        self._spawn(self._redis.run())
        await self._redis_ready(self._redis)

    async def _redis_ready(self, redis: Keeper) -> None:
        """Wait for the first ready Redis; one that loads a large file may take its time."""
        end = time.monotonic() + START_TIMEOUT_S
        while not redis.ready.is_set():
            self._view.waiting({redis.name: redis.health.detail})
            await asyncio.sleep(0.05)
            if redis.health.alive:
                end = time.monotonic() + START_TIMEOUT_S
            if redis.restarts > 1 or time.monotonic() > end:
                lines = "\n".join(redis.child.last_lines())
                raise UnavailableError(f"Redis does not start; the end of {redis.child.log}:\n{lines}")
        self._view.calm()

    async def _check_configuration(self) -> None:
        """Check all files before any service applies one: all problems at once, nothing half-applied."""
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "config", "check", env=self._site.environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output = (await process.communicate())[0].decode(errors="replace").strip().removeprefix("voltage: ")
        if process.returncode == ConfigurationError.exit_code:
            raise RefusedError(f"the configuration has problems:\n{output}")
        if process.returncode:
            # Each service says more about it when it starts.
            self._view.say(f"the configuration could not be checked: {output.splitlines()[-1:]}")

    async def _load_functions(self) -> None:
        client = connect(self._site.redis_url())
        try:
            version = await library.load(client, self._site.settings.namespace)
            self._view.say(f"functions: api {version.api}, digest {version.digest[:12]}")
        finally:
            await client.aclose()

    async def _look_after_redis(self) -> None:
        """Keep the functions loaded and room on the disk, and report what is wrong here."""
        client = connect(self._site.redis_url())
        keepers = Restarts(lambda: [*([self._redis] if self._redis else []), *self._keepers])
        reporter = Reporter(Functions(client, self._site.settings.namespace), "supervisor", keepers.look)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reporter.run())
                tasks.create_task(self._keep_functions(client, reporter))
                if self._redis:
                    tasks.create_task(RedisDisk(self._site.redis_dir, client, self._view.say, reporter).run())
        finally:
            await client.aclose()

    async def _keep_functions(self, client: Client, reporter: Reporter) -> None:
        """Load the functions again where a Redis came back without them."""
        while True:
            await asyncio.sleep(FUNCTIONS_INTERVAL_S)
            # Away or loading: its keeper, or whoever runs it, brings it back.
            with contextlib.suppress(VoltageError):
                if await library.version(client) is None:
                    await library.load(client, self._site.settings.namespace)
                    self._view.say("functions: loaded again, Redis had lost them")
                    reporter.happened(Trouble("functions"))

    def _start_services(self) -> None:
        site, options = self._site, self._options
        environ = site.environment()
        commands: dict[str, tuple[list[str], dict[str, int]]] = {}
        if (site.config_dir / "simulate.yaml").exists() and SIMULATOR not in options.without:
            commands[SIMULATOR] = ([*PROGRAM, "simulate"], {})
        elsewhere = {name for name, address in site.settings.services.items() if address.url}
        ports = {
            service.name: port_of(service.name, site.settings.port_base)
            for service in SERVICES
            if service.name not in options.without | elsewhere
        }
        if options.single_process:
            commands[SINGLE] = ([*PROGRAM, "serve", *ports], ports)
        else:
            commands |= {name: ([*PROGRAM, "serve", name], {name: port}) for name, port in ports.items()}
        for name, (command, probed) in commands.items():
            child = Child(name, command, environ, site.logs_dir)
            check = all_of(probed) if probed else None
            keeper = Keeper(child, check, self._view.say, restart=options.restart)
            self._keepers.append(keeper)
            self._spawn(keeper.run())

    async def _wait_ready(self, started: float) -> None:
        waiting = list(self._keepers)
        while waiting and time.monotonic() - started < START_TIMEOUT_S and not self._stop.is_set():
            for keeper in [one for one in waiting if one.ready.is_set()]:
                self._view.say(f"{keeper.name}: ready after {time.monotonic() - started:.1f} s")
                waiting.remove(keeper)
            self._show_link(when_ready=True)
            self._view.waiting({keeper.name: keeper.health.detail for keeper in waiting})
            await asyncio.sleep(0.1)

    async def _end(self) -> None:
        """Stop everything: services first, they may still want to write, then Redis."""
        started = time.monotonic()
        await asyncio.gather(*(keeper.stop(SERVICES_GRACE_S) for keeper in self._keepers))
        if self._redis:
            await self._redis.stop(REDIS_GRACE_S)
        await cancel(*self._tasks)
        self._view.say(f"stopped in {time.monotonic() - started:.1f} s")


def check_names(names: Sequence[str]) -> None:
    """Refuse names that are no services.

    Raises:
        ConfigurationError: which, and which there are.
    """
    known = [service.name for service in SERVICES]
    wrong = [name for name in names if name not in (*known, SIMULATOR)]
    if wrong:
        raise ConfigurationError([Problem(name, f"no such service; there are {', '.join(known)}") for name in wrong])
