"""A storm over the store of images: pushes, pulls, loads, builds and deletions while garbage is collected.

Nothing that has a name is lost, and at the end nothing stays that has none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_image import import_application
from audit import settled
from debian_registry import PASSWORD, USER, DebianRegistry
from image_storm import ELSEWHERE, POOL, ImageClient, everything, pooled
from registry_content import image
from registry_host import RegistryHost, layout
from tiny_daemon import tiny_daemon
from waiting import until

SECONDS = float(os.environ.get("ISOLA_CHAOS_SECONDS", "6"))
SEED = int(os.environ.get("ISOLA_CHAOS_SEED", "0")) or int(time.time())
CLIENTS = 5


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryHost]:
    """A daemon with its registry, beside one of Debian that has the contents of the storm for each client."""
    with tiny_daemon(tmp_path) as daemon:
        import_application(daemon, "served")
        (tmp_path / "debian").mkdir()
        other = DebianRegistry(daemon, tmp_path / "debian")
        try:
            other.start()
            other.trust_in(daemon)
            fill(other, tmp_path)
            yield RegistryHost(daemon, tmp_path)
        finally:
            other.end()


def fill(other: DebianRegistry, place: Path) -> None:
    """Push to one repository of each content, and give every client a copy of it."""
    options = ["--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"]
    repositories = other.storage / "docker/registry/v2/repositories"
    for number in range(ELSEWHERE):
        source, there = (
            layout(place / f"pool{number}", image(f"pool {number}")),
            f"docker://{other.address}/c0/pool{number}:1",
        )
        other.daemon.inside("skopeo", "--insecure-policy", "copy", *options, source, there)
        for client in range(1, CLIENTS):
            shutil.copytree(repositories / f"c0/pool{number}", repositories / f"c{client}/pool{number}")


@pytest.mark.timeout(SECONDS * 3 + 300)
def test_nothing_with_a_name_is_lost_and_nothing_else_stays(registry: RegistryHost) -> None:
    print(f"ISOLA_CHAOS_SEED={SEED} ISOLA_CHAOS_SECONDS={SECONDS:g}")
    daemon, over = registry.daemon, threading.Event()
    before = sorted(daemon.get("/1.0/images"))
    clients = [ImageClient(number, registry, SEED, over) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    over.wait(SECONDS)
    over.set()
    for thread in threads:
        thread.join(240)
    done = sum((client.done for client in clients), Counter[str]())
    print(f"{done.total()} verbs: {dict(sorted(done.items()))}")
    assert [fault for client in clients for fault in client.wrong] == []
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    daemon.idle()
    for client in clients:
        for tag in sorted(client.names):
            client.check(tag)
    assert settled(daemon) == []
    daemon.kill()
    daemon.start()
    until(lambda: opened(clients[0]), 60)
    for client in clients:
        client.client.close()
        for tag in sorted(client.names):
            client.check(tag)
        remove_all(client)
    clients[0].do_prune()
    daemon.idle()
    assert settled(daemon) == []
    assert sorted(daemon.get("/1.0/images")) == before
    assert "Traceback" not in daemon.log.read_text()


def opened(client: ImageClient) -> bool:
    """Whether the registry of the daemon that was just started listens."""
    client.client.close()
    with contextlib.suppress(ConnectionError):
        return client.client.ask("GET", "/v2/").status == 200
    return False


def remove_all(client: ImageClient) -> None:
    """Delete its names, and the blobs that its repository was sent and does not need."""
    while client.names:
        client.do_delete()
    contents = [*map(pooled, range(POOL)), *(image(f"pool {number}") for number in range(POOL))]
    for part in [part for content in contents for part in (content, *content.manifests)]:
        client.client.ask("DELETE", f"/v2/{client.repository}/manifests/{part.digest}")
    for digest in [digest for content in contents for digest in everything(content)]:
        answer = client.client.ask("DELETE", f"/v2/{client.repository}/blobs/{digest}")
        assert answer.status in (202, 404), answer
    answer = client.client.ask("GET", f"/v2/{client.repository}/tags/list")
    assert answer.status == 404, answer
    client.client.close()
