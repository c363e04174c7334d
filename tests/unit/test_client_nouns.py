"""The client library with a stateful daemon in memory."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from served_daemon import ServedDaemon
from tars import member, packed, tar

from isola import errors
from isola.client import Client
from isola.client.shapes import OperationInfo
from isola.model.reference import Ref
from isola.operations import Operation


def test_the_lifecycle_of_an_instance_by_the_client(client: Client) -> None:
    instances = client.instances
    instances.create(image="tiny", name="web1", config={"user.a": "b"}, start=True).wait()
    assert instances.names() == ["web1"]
    assert instances.get("web1")["config"]["user.a"] == "b"
    instances.pause("web1").wait()
    assert instances.get("web1")["status"] == "Frozen"
    instances.stop("web1", timeout=5).wait()
    instances.rename("web1", "web2").wait()
    instances.delete("web2").wait()
    assert instances.all() == []


def test_a_generated_name_is_returned(client: Client) -> None:
    operation = client.instances.create(image="tiny")
    operation.wait()
    name = operation.resource("instances")
    assert re.fullmatch(r"[a-z]+-[a-z0-9-]+", name) and client.instances.names() == [name]


def test_an_outdated_etag_is_refused(client: Client, daemon: ServedDaemon) -> None:
    daemon.create("web1")
    info, etag = client.instances.read("web1")
    client.instances.update("web1", info, etag=etag).wait()
    with pytest.raises(errors.PreconditionFailed):
        client.instances.update("web1", info, etag="older")


def test_waiting_shows_progress_and_raises_the_operations_error(client: Client, daemon: ServedDaemon) -> None:
    async def slow(operation: Operation) -> None:
        with operation.step("Unpack", total=10, unit="bytes") as step:
            step.advance(5)
            await asyncio.sleep(0.35)
            raise errors.HostFailure("No room", evidence="disk full", remedy="make room")

    daemon.slow = slow
    seen: list[OperationInfo] = []
    with pytest.raises(errors.HostFailure) as caught:
        client.instances.create(image="tiny", name="web1").wait(seen.append)
    assert (caught.value.evidence, caught.value.remedy) == ("disk full", "make room")
    assert len(seen) >= 3
    assert seen[0]["metadata"] is not None
    assert seen[0]["metadata"]["progress"][0]["name"] == "Unpack"  # type: ignore[index]


def test_a_quick_operation_is_not_watched(client: Client) -> None:
    seen: list[OperationInfo] = []
    client.instances.create(image="tiny", name="web1").wait(seen.append)
    assert seen == []


def test_an_operation_is_not_watched_before_the_time_asked_for(client: Client, daemon: ServedDaemon) -> None:
    async def slow(operation: Operation) -> None:
        await asyncio.sleep(0.35)

    daemon.slow = slow
    seen: list[OperationInfo] = []
    client.instances.create(image="tiny", name="web1").wait(seen.append, after=10)
    assert seen == []


def test_a_cancelled_operation_is_an_error_of_its_own(client: Client, daemon: ServedDaemon) -> None:
    async def slow(operation: Operation) -> None:
        await asyncio.sleep(30)

    daemon.slow = slow
    operation = client.instances.create(image="tiny", name="web1")
    client.operations.get(operation.info["id"]).cancel()
    with pytest.raises(errors.Cancelled):
        operation.wait()
    assert [info["status"] for info in client.operations.all() if info["id"] == operation.info["id"]] == ["Cancelled"]
    assert client.instances.names() == []


def test_files_are_written_and_read(client: Client, daemon: ServedDaemon, tmp_path: Path) -> None:
    daemon.create("web1")
    tree = daemon.tree("web1")
    tree.clear()
    files = client.instances.files("web1")
    files.make_directory("/srv", mode=0o750)
    files.write("/srv/a", b"first", uid=33, gid=34, mode=0o600)
    source = tmp_path / "source"
    source.write_bytes(b"z" * 700_000)
    with open(source, "rb") as file:
        files.write("/srv/b", file.fileno())
    files.make_symlink("/srv/link", "../etc")
    assert files.read("/srv/b") == b"z" * 700_000
    assert files.names("/srv") == ["a", "b", "link"]
    assert tree["/srv/a"] == {
        "kind": "file",
        "data": b"first",
        "uid": "33",
        "gid": "34",
        "mode": "0600",
    }
    with files.open("/srv/link") as entry:
        assert (entry.kind, entry.target()) == ("symlink", "../etc")
    with pytest.raises(errors.NotFound):
        files.read("/nowhere")
    files.delete_tree("/srv")
    assert list(tree) == ["/"]


def test_names_with_slashes_are_left_out(client: Client, daemon: ServedDaemon) -> None:
    daemon.create("web1")
    daemon.tree("web1")["/bad"] = {"kind": "directory", "names": ["ok", "..", "a/b", "", "x\0y", ".", "../../etc"]}
    assert client.instances.files("web1").names("/bad") == ["ok"]


def test_images_are_uploaded_as_one_file_or_two(client: Client, daemon: ServedDaemon, tmp_path: Path) -> None:
    described = member("metadata.yaml", b'{"architecture": "x86_64", "creation_date": 1700000000}')
    parts = {
        "meta": packed(tar(described), "gzip"),
        "rootfs": packed(tar(member("sbin/init", os.urandom(600_000))), "gzip"),
        "unified": packed(tar(described, member("rootfs/sbin/init", os.urandom(600_000))), "gzip"),
    }
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    one = client.images.upload([str(tmp_path / "unified")], properties={"os": "x & y"})
    one.wait()
    two = client.images.upload([str(tmp_path / "meta"), str(tmp_path / "rootfs")])
    two.wait()
    exports = daemon.world.parts.services.images.export
    kept = [[path.read_bytes() for _, path in exports(Ref.default(each.resource("images")))] for each in (one, two)]
    assert kept == [[parts["unified"]], [parts["meta"], parts["rootfs"]]]
    assert client.images.get(one.resource("images"))["properties"]["os"] == "x & y"


def test_images_are_found_by_alias(client: Client) -> None:
    client.images.build("debian/12").wait()
    (built,) = (image for image in client.images.all() if image["properties"]["os"] == "Debian")
    assert client.images.fingerprint("debian/12") == built["fingerprint"]
    assert client.images.fingerprint("abc123") == "abc123"


def test_events_are_followed_to_their_end(client: Client, daemon: ServedDaemon) -> None:
    with client.events("lifecycle") as follower:
        daemon.create("web1")
        daemon.close()
        assert [event["metadata"]["action"] for event in follower] == ["instance-created", "instance-started"]


def test_profiles_networks_and_pools_are_listed_and_changed(client: Client, daemon: ServedDaemon) -> None:
    assert [pool["name"] for pool in client.storage.all()] == ["default"]
    client.networks.update("isolabr0", {"config": {"ipv4.nat": "false"}, "description": "quiet"}).wait()
    profile, etag = client.profiles.read("default")
    client.profiles.update("default", {**profile, "description": "ours"}, etag=etag)
    network = daemon.world.parts.services.networks.get(Ref.default("isolabr0"))
    assert (network.description, network.config["ipv4.nat"]) == ("quiet", "false")
    assert client.profiles.get("default")["description"] == "ours"
