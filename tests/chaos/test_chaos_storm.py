"""A storm: random verbs by eight clients, and SIGKILL of the daemon every few seconds. Nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import settled
from daemon import Daemon
from storm import ABSENT, FROZEN, Client
from tiny_daemon import tiny_daemon

SECONDS = float(os.environ.get("ISOLA_CHAOS_SECONDS", "12"))
SEED = int(os.environ.get("ISOLA_CHAOS_SEED", "0")) or int(time.time())
CLIENTS = 8


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with tiny_daemon(tmp_path) as daemon:
        yield daemon


@pytest.mark.timeout(SECONDS * 3 + 300)
def test_nothing_acknowledged_is_lost_in_a_storm(daemon: Daemon) -> None:
    print(f"ISOLA_CHAOS_SEED={SEED} ISOLA_CHAOS_SECONDS={SECONDS:g}")
    over = threading.Event()
    clients = [Client(number, daemon, SEED, over) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    kills = kill_again_and_again(daemon, clients, random.Random(SEED))
    over.set()
    for thread in threads:
        thread.join(180)
    done = sum((Counter(client.done) for client in clients), Counter[str]())
    broken = sum(client.broken for client in clients)
    print(f"{kills} kills, {done.total()} verbs, {broken} aborted: {dict(sorted(done.items()))}")
    assert [fault for client in clients for fault in client.wrong] == []
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    daemon.idle()
    frozen = {guest.name for client in clients for guest in client.guests if guest.power == FROZEN}
    assert settled(daemon, frozen=frozen) == []
    for client in clients:
        for guest in client.guests:
            assert client.observe(guest) == guest
            if guest.power != ABSENT:
                client.do_pull(guest)
                daemon.run("DELETE", f"/1.0/instances/{guest.name}?force=1")
    daemon.idle()
    assert settled(daemon) == []
    assert "Traceback" not in daemon.log.read_text()


def kill_again_and_again(daemon: Daemon, clients: list[Client], chance: random.Random) -> int:
    """Send SIGKILL at random moments until the time is over or a client has failed; finally a daemon runs."""
    kills, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end and not any(client.wrong for client in clients):
        time.sleep(chance.uniform(0.3, 4))
        daemon.kill()
        kills += 1
        daemon.start()
    return kills
