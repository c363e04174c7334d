"""Run the daemon until it receives a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from isola import registry
from isola.daemon.bootstrap import bootstrap
from isola.daemon.build import Parts, build
from isola.daemon.copies import Copies
from isola.daemon.doors import Doors, open_doors
from isola.daemon.due import Due
from isola.daemon.log_lines import log_lines
from isola.daemon.remedies import ways_out
from isola.errors import Conflict, IsolaError, SuspectState
from isola.events import Events
from isola.host import Host, background, tags
from isola.host.kernel import give_back_memory
from isola.host.linux import linux_host
from isola.host.threads import in_thread
from isola.model.event import EventKind
from isola.operations import Observer
from isola.server import pressure

log = logging.getLogger("isola.daemon")


def run(
    directory: Path,
    *,
    minimal: bool = False,
    ready: Callable[[], None] = lambda: None,
    observer: Observer | None = None,
) -> int:
    """Serve until SIGTERM (instances keep running) or SIGPWR (instances and networks are stopped first).

    SIGHUP: the server's certificate is read again.
    """
    _begin_log()
    try:
        return asyncio.run(_serve(linux_host(), directory, minimal, ready, observer))
    except IsolaError as error:
        log.error("The daemon cannot run: %s%s", error, ways_out(error))
        # Status 2: the supervisor does not restart it, because it would fail again.
        return 2 if isinstance(error, SuspectState | Conflict) else 1


def _begin_log() -> None:
    lines = logging.StreamHandler()
    lines.setFormatter(log_lines())
    logging.basicConfig(level=logging.INFO, handlers=[lines])


async def _serve(
    host: Host, directory: Path, minimal: bool, ready: Callable[[], None], observer: Observer | None
) -> int:
    wanted = _signals()
    names = await in_thread(tags.claim, directory)  # before there is anything in the directory
    store = registry.load("state", "sqlite")(directory, host.clock)
    await store.open()
    try:
        parts = await build(host, directory, store, observer, names=names)
        handler = _publish_log(parts.services.events)
        await parts.open()
        await bootstrap(parts, minimal=minimal)
        copies = Copies(host, directory, store)
        copies.begin()
        services = parts.services
        due = Due(
            host.clock, services.volumes.snapshots.look, services.instances.snapshots.look, services.repositories.look
        )
        due.begin()
        doors = await open_doors(parts.services, directory)
        watching = asyncio.ensure_future(pressure.watch(host))
        try:
            await _ready(directory, ready)
            await _until_signal(parts, doors, wanted)
        finally:
            watching.cancel()
            background.notify("STOPPING=1")
            copies.end()
            due.end()
            await doors.close()
            await parts.close()
            logging.getLogger().removeHandler(handler)
    finally:
        await store.close()
    return 0


async def _ready(directory: Path, ready: Callable[[], None]) -> None:
    # All objects so far are permanent: exclude them from garbage collection.
    gc.collect()
    gc.freeze()
    give_back_memory()
    background.notify("READY=1")
    ready()
    log.info("Ready in %s", directory)


async def _until_signal(parts: Parts, doors: Doors, wanted: asyncio.Queue[int]) -> None:
    while (number := await wanted.get()) == signal.SIGHUP:
        await _reload(doors)
    log.info("Stopping on signal %d", number)
    if number == signal.SIGPWR:
        await parts.shutdown()


async def _reload(doors: Doors) -> None:
    """All settings apply at once; what the daemon has read from files since its start is its certificate."""
    try:
        await doors.https.reload()
    except IsolaError as error:
        log.error("The certificate of the server stays as it was: %s%s", error, ways_out(error))
    else:
        log.info("Reloaded")


def _signals() -> asyncio.Queue[int]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPWR, signal.SIGHUP):
        loop.add_signal_handler(number, queue.put_nowait, number)
    return queue


class _EventsHandler(logging.Handler):
    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        if self._events.followed(EventKind.LOGGING):
            self._events.log(record.levelname.lower(), record.getMessage(), logger=record.name)


def _publish_log(events: Events) -> logging.Handler:
    handler = _EventsHandler(events)
    logging.getLogger().addHandler(handler)
    return handler
