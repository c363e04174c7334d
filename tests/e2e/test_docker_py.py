"""The Python library for Docker, unmodified, on the socket of a daemon."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from command import Cli
from daemon import Daemon
from waiting import until


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Any]:
    isola = Cli(daemon)
    isola("image", "build", "busybox", "--alias", "busybox")
    client = docker.DockerClient(base_url=f"unix://{daemon.directory}/docker.sock", version="auto", timeout=60)
    yield client
    client.close()
    isola("image", "delete", "busybox")


@pytest.fixture(autouse=True)
def nothing_left(client: Any) -> Iterator[None]:
    yield
    for container in client.containers.list(all=True):
        container.remove(force=True, v=True)


def test_versions_are_negotiated(client: Any) -> None:
    assert client.ping() and client.version()["ApiVersion"] == "1.51"
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"


def test_run_returns_the_output_and_raises_on_failure(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3 and caught.value.stderr == b"no\n"
    with pytest.raises(docker.errors.NotFound, match="No such container: gone"):
        client.containers.get("gone")


def test_logs_stats_and_top(client: Any) -> None:
    box = client.containers.run(
        "busybox", ["sh", "-c", "echo a; echo c; echo b >&2; sleep 100"], detach=True, name="box"
    )
    until(lambda: box.logs(stdout=True, stderr=False) == b"a\nc\n", 10)
    assert list(box.logs(stderr=False, stream=True, follow=False)) == [b"a\n", b"c\n"]
    assert box.logs(stdout=False, stderr=True) == b"b\n"
    stats = box.stats(stream=False)
    assert stats["pids_stats"]["current"] >= 1 and stats["memory_stats"]["usage"] > 0
    assert stats["cpu_stats"]["system_cpu_usage"] > stats["precpu_stats"]["system_cpu_usage"] > 0
    first = next(box.stats(stream=True, decode=True))
    assert first["name"] == "/box"
    assert any("sleep" in " ".join(row) for row in box.top()["Processes"])
    box.kill()
    assert box.wait()["StatusCode"] == 137


def test_commands_with_output_apart_streamed_and_by_socket(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "100"], detach=True)
    code, (out, err) = box.exec_run(["sh", "-c", "echo o; echo e >&2; exit 2"], demux=True)
    assert (code, out, err) == (2, b"o\n", b"e\n")
    _, stream = box.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True)
    assert b"".join(stream) == b"1\n2\n"
    made = client.api.exec_create(box.id, ["cat"], stdin=True)
    socket = client.api.exec_start(made["Id"], socket=True)
    link = socket._sock
    link.sendall(b"round trip\n")
    link.settimeout(10)
    assert link.recv(100)[8:] == b"round trip\n", "after a header of eight bytes"
    link.shutdown(1)
    assert link.recv(100) == b"", "cat has ended"
    until(lambda: client.api.exec_inspect(made["Id"])["ExitCode"] == 0, 10)
    socket.close()


def test_attaching_by_socket_and_the_end_of_input(client: Any) -> None:
    box = client.containers.create("busybox", ["cat"], stdin_open=True, tty=False)
    socket = client.api.attach_socket(box.id, params={"stdin": 1, "stdout": 1, "stream": 1})
    box.start()
    link = socket._sock
    link.settimeout(10)
    link.sendall(b"line\n")
    assert link.recv(100)[8:] == b"line\n"
    socket.close()
    assert box.attrs["State"]["Status"] == "created"
    box.reload()
    assert box.status == "running"


def test_archives_limits_and_changes(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "100"], detach=True, mem_limit="64m", labels={"x": ""})
    assert box.labels == {"x": ""} and box.attrs["HostConfig"]["Memory"] == 64 * 2**20
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    assert box.put_archive("/tmp", buffer.getvalue())
    blocks, stat = box.get_archive("/tmp/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(blocks))) as archive:
        found = archive.extractfile("file")
        assert found is not None and found.read() == b"data" and stat["size"] == 4
    assert {"Path": "/tmp/file", "Kind": 1} in box.diff()
    box.update(mem_limit="128m", memswap_limit="128m")
    box.reload()
    assert box.attrs["HostConfig"]["Memory"] == 128 * 2**20


def test_events_are_followed(client: Any) -> None:
    seen: list[dict[str, Any]] = []
    stream = client.events(decode=True, filters={"type": "container"})
    follower = threading.Thread(target=lambda: seen.extend(stream), daemon=True)
    follower.start()
    box = client.containers.run("busybox", ["true"], detach=True, name="told")
    box.wait()
    box.remove()
    until(lambda: [each["Action"] for each in seen] == ["create", "start", "die", "destroy"], 10)
    stream.close()
    follower.join(60)


def test_networks_and_volumes(client: Any) -> None:
    network = client.networks.create("lab")
    volume = client.volumes.create("kept", labels={"a": "b"})
    try:
        mounts = {"kept": {"bind": "/kept", "mode": "rw"}}
        box = client.containers.run("busybox", ["sleep", "100"], detach=True, network="lab", volumes=mounts, name="box")
        box.reload()
        assert list(box.attrs["NetworkSettings"]["Networks"]) == ["lab"]
        assert box.exec_run(["touch", "/kept/x"]).exit_code == 0
        other = client.containers.run("busybox", ["nslookup", "box"], network="lab", remove=True)
        assert box.attrs["NetworkSettings"]["Networks"]["lab"]["IPAddress"].encode() in other
        box.remove(force=True)
        assert client.containers.run("busybox", ["ls", "/kept"], volumes=mounts, remove=True) == b"x\n"
    finally:
        network.remove()
        volume.remove()


def test_the_content_of_an_image_is_mounted(client: Any) -> None:
    # The library's own class does not know this type; what it sends is a dictionary anyway.
    mount = {"Type": "image", "Source": "busybox", "Target": "/x", "ImageOptions": {"Subpath": "bin"}}
    assert b"busybox" in client.containers.run("busybox", ["ls", "/x"], mounts=[mount], remove=True)
    box = client.containers.create("busybox", ["true"], mounts=[mount])
    assert [(each["Type"], each["Name"], each["RW"]) for each in box.attrs["Mounts"]] == [("image", "busybox", False)]
    with pytest.raises(docker.errors.APIError, match="is using its referenced image"):
        client.images.remove("busybox")
