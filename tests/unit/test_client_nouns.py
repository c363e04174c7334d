"""The library against a daemon that keeps state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_daemon import ApiError, StubDaemon, StubOperation

from isola import errors
from isola.client import Client
from isola.client.shapes import OperationInfo


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StubDaemon]:
    with StubDaemon(str(tmp_path)) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: StubDaemon) -> Iterator[Client]:
    with Client(daemon.directory, timeout=20) as client:
        yield client


def test_an_instance_lives_and_dies(client: Client) -> None:
    instances = client.instances
    instances.create(image="tiny", name="web1", config={"user.a": "b"}, start=True).wait()
    assert instances.names() == ["web1"]
    assert instances.get("web1")["config"] == {"user.a": "b"}
    instances.pause("web1").wait()
    assert instances.get("web1")["status"] == "Frozen"
    instances.stop("web1", timeout=5).wait()
    instances.rename("web1", "web2").wait()
    instances.delete("web2").wait()
    assert instances.all() == []


def test_a_name_made_up_by_the_daemon_is_told(client: Client) -> None:
    assert client.instances.create(image="tiny").resource("instances") == "calm-1"


def test_an_etag_of_yesterday_is_refused(client: Client, daemon: StubDaemon) -> None:
    daemon.add("web1")
    info, etag = client.instances.read("web1")
    client.instances.update("web1", info, etag=etag).wait()
    with pytest.raises(errors.PreconditionFailed):
        client.instances.update("web1", info, etag="older")


def test_waiting_shows_progress_and_raises_the_operations_error(client: Client, daemon: StubDaemon) -> None:
    async def slow(operation: StubOperation) -> None:
        operation.steps({"name": "Unpack", "done": 5, "total": 10, "unit": "bytes", "finished": False, "depth": 0})
        await asyncio.sleep(0.35)
        raise ApiError(400, "host_failure", "No room", evidence="disk full", remedy="make room")

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


def test_a_cancelled_operation_is_an_error_of_its_own(client: Client, daemon: StubDaemon) -> None:
    async def slow(operation: StubOperation) -> None:
        await asyncio.sleep(30)

    daemon.slow = slow
    operation = client.instances.create(image="tiny", name="web1")
    client.operations.get(operation.info["id"]).cancel()
    with pytest.raises(errors.Cancelled):
        operation.wait()
    assert [info["status"] for info in client.operations.all()] == ["Cancelled"]


def test_files_travel_both_ways(client: Client, daemon: StubDaemon, tmp_path: Path) -> None:
    daemon.add("web1")
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
    assert daemon.files["web1"]["/srv/a"] == {
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
    assert daemon.files["web1"] == {"/": {"kind": "directory"}}


def test_names_that_would_lead_elsewhere_are_left_out(client: Client, daemon: StubDaemon) -> None:
    daemon.add("web1")
    daemon.files["web1"]["/bad"] = {"kind": "directory", "names": ["ok", "..", "a/b", "", "x\0y", ".", "../../etc"]}
    assert client.instances.files("web1").names("/bad") == ["ok"]


def test_images_are_uploaded_as_one_file_or_two(client: Client, daemon: StubDaemon, tmp_path: Path) -> None:
    for name in ("meta", "rootfs"):
        (tmp_path / name).write_bytes(name.encode() * 100_000)
    client.images.upload([str(tmp_path / "rootfs")], properties={"os": "x & y"}).wait()
    client.images.upload([str(tmp_path / "meta"), str(tmp_path / "rootfs")]).wait()
    assert daemon.uploads == [b"rootfs" * 100_000, b"meta" * 100_000, b"rootfs" * 100_000]


def test_images_are_found_by_alias(client: Client) -> None:
    client.images.build("debian/12").wait()
    assert client.images.fingerprint("debian/12") == "f" * 64
    assert client.images.fingerprint("abc123") == "abc123"


def test_events_are_followed_to_their_end(client: Client) -> None:
    with client.events("lifecycle") as follower:
        assert [event["metadata"]["action"] for event in follower] == ["instance-started"]


def test_profiles_networks_and_pools_are_listed_and_changed(client: Client, daemon: StubDaemon) -> None:
    assert [pool["name"] for pool in client.storage.all()] == ["default"]
    client.networks.update("lab", {"ipv4.nat": "false"}, "quiet").wait()
    profile, etag = client.profiles.read("default")
    client.profiles.update("default", {**profile, "description": "ours"}, etag=etag)
    assert daemon.networks["lab"]["description"] == "quiet"
    assert client.profiles.get("default")["description"] == "ours"
