"""Files of containers and images as archives through the Docker door, over a daemon in memory."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing
from tars import directory, member, packed, symlink, tar

from isola.model.reference import Ref

PATH = "/containers/web1/archive?path="
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        status, body = await made.ask("POST", "/containers/create?name=web1", {"Image": "tiny", "Cmd": ["sleep"]})
        assert status == 201, body
        yield made


async def raw(docker: DockerStand, method: str, path: str, **more: Any) -> tuple[int, bytes, Any]:
    async with docker.session.request(method, f"http://docker/v1.50{path}", **more) as answer:
        return answer.status, await answer.read(), answer.headers


async def members(docker: DockerStand, path: str) -> dict[str, tarfile.TarInfo]:
    status, data, headers = await raw(docker, "GET", PATH + path)
    assert (status, headers["Content-Type"]) == (200, "application/x-tar"), data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {each.name: each for each in archive}


async def put(docker: DockerStand, path: str, data: bytes, more: str = "") -> tuple[int, bytes]:
    status, body, _ = await raw(docker, "PUT", f"{PATH}{path}{more}", data=data)
    return status, body


def told(headers: Any) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"])))


async def test_a_path_is_described(docker: DockerStand) -> None:
    status, body, headers = await raw(docker, "HEAD", f"{PATH}/etc/hostname")
    assert (status, body) == (200, b"")
    found = told(headers)
    assert (found["name"], found["size"], found["mode"], found["linkTarget"]) == ("hostname", 5, 0o755, "")
    assert told((await raw(docker, "HEAD", f"{PATH}/etc/"))[2])["mode"] & 1 << 31
    assert told((await raw(docker, "HEAD", f"{PATH}/etc/."))[2])["name"] == "."
    assert (await raw(docker, "HEAD", f"{PATH}/gone"))[0] == 404
    status, body, _ = await raw(docker, "GET", f"{PATH}/gone")
    assert (status, json.loads(body)["message"]) == (404, "Could not find the file /gone in container web1")
    assert (await raw(docker, "GET", f"{PATH}/etc/hostname/"))[0] == 400
    assert (await raw(docker, "GET", PATH))[0] == 400
    assert (await raw(docker, "GET", "/containers/gone/archive?path=/"))[0] == 404


async def test_files_go_in_and_come_out(docker: DockerStand) -> None:
    tree = tar(
        directory("deep", mode=0o750, uid=7, gid=8), member("deep/file", b"x" * 3000, uid=9, gid=10, mode=0o640),
        symlink("deep/link", "file"), member("new/parent", b"y"),
    )  # fmt: skip
    for kind in ("none", "gzip", "zstd"):
        assert (await put(docker, "/etc", packed(tree, kind)))[0] == 200
    found = await members(docker, "/etc/deep")
    assert list(found) == ["deep", "deep/file", "deep/link"]
    assert (found["deep"].uid, found["deep"].mode) == (7, 0o750)
    assert (found["deep/file"].gid, found["deep/file"].size, found["deep/file"].mode) == (10, 3000, 0o640)
    assert found["deep/link"].linkname == "file"
    assert list(await members(docker, "/etc/deep/.")) == [".", "./file", "./link"]
    assert list(await members(docker, "/etc/deep/file")) == ["file"]
    assert (await members(docker, "/etc/deep/link"))["link"].issym()
    assert "new/parent" in await members(docker, "/etc/new")


async def test_what_may_not_be_replaced(docker: DockerStand) -> None:
    assert (await put(docker, "/", tar(directory("d"), member("f", b"x"))))[0] == 200
    status, body = await put(docker, "/", tar(member("d", b"x")), "&noOverwriteDirNonDir=true")
    assert status == 400 and b'cannot overwrite directory \\"/d\\" with non-directory' in body
    assert (await put(docker, "/", tar(directory("f")), "&noOverwriteDirNonDir=true"))[0] == 400
    assert (await put(docker, "/", tar(member("d", b"x"))))[0] == 200
    assert (await put(docker, "/f", tar(member("g", b"x"))))[0] == 400
    assert (await put(docker, "/gone", tar(member("g", b"x"))))[0] == 404


async def test_the_user_of_the_container_owns_what_is_copied(docker: DockerStand) -> None:
    body = {"Image": "tiny", "Cmd": ["sleep"], "User": "123:45"}
    await docker.ask("POST", "/containers/create?name=web2", body)
    path = "/containers/web2/archive?path=/"
    assert (await raw(docker, "PUT", f"{path}&copyUIDGID=1", data=tar(member("f", b"x", uid=1))))[0] == 200
    data = (await raw(docker, "GET", f"{path}f"))[1]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert (archive.getmembers()[0].uid, archive.getmembers()[0].gid) == (123, 45)


async def test_without_a_user_all_owners_are_kept(docker: DockerStand) -> None:
    path = "/containers/web1/archive?path=/"
    assert (await raw(docker, "PUT", f"{path}&copyUIDGID=1", data=tar(member("f", b"x", uid=1))))[0] == 200
    with tarfile.open(fileobj=io.BytesIO((await raw(docker, "GET", f"{path}f"))[1])) as archive:
        assert archive.getmembers()[0].uid == 1


@pytest.mark.parametrize("data", [tar(member("../x", b"")), b"x" * 2000, tar(member("a", b"x" * 900))[:-1600]])
async def test_hostile_archives(docker: DockerStand, data: bytes) -> None:
    status, body = await put(docker, "/etc", data)
    assert status in (400, 500) and b"message" in body
    assert list(docker.services.images.store.scratch.iterdir()) == []


async def test_changes_export_and_commit(docker: DockerStand) -> None:
    await put(docker, "/", tar(member("new", b"x")))
    assert {"Path": "/new", "Kind": 1} in await docker.get("/containers/web1/changes")
    status, data, _ = await raw(docker, "GET", "/containers/web1/export")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {"new", "etc/hostname"} <= set(archive.getnames())
    query = "container=web1&repo=mine&tag=2&comment=why&author=me&changes=ENV+A%3D1&changes=CMD+x"
    async with docker.session.post(f"http://docker/v1.50/commit?{query}", data=b"null\n", headers=JSON) as answer:
        id = (await answer.json())["Id"]
        assert answer.status == 201
    image = docker.services.images.resolve(Ref.default("docker.io/library/mine:2"))
    assert image is not None and id == f"sha256:{image.fingerprint}"
    assert image.config.environment["A"] == "1"
    below = (await docker.get("/images/tiny/json"))["Id"]
    shown = {each["Id"]: each["ParentId"] for each in await docker.get("/images/json")}
    assert shown == {id: below, below: ""} and (await docker.get("/images/mine:2/json"))["Parent"] == below
    status, body = await docker.ask("POST", "/commit?container=gone")
    assert (status, body["message"]) == (404, "No such container: gone")
    config = {"Cmd": ["/bin/y"], "Env": ["B=two words"], "Labels": {"a": "b"}}
    status, body = await docker.ask("POST", "/commit?container=web1&repo=mine&tag=3", config)
    image = docker.services.images.resolve(Ref.default("docker.io/library/mine:3"))
    assert image is not None and image.config.environment["B"] == "two words"


async def test_images_are_saved_and_loaded(docker: DockerStand) -> None:
    await docker.ask("POST", "/commit?container=web1&repo=mine&tag=1")
    for path in ("/images/mine:1/get", "/images/mine/get", "/images/get?names=mine:1&names=tiny"):
        status, data, headers = await raw(docker, "GET", path)
        assert (status, headers["Content-Type"]) == (200, "application/x-tar"), data
    image = docker.services.images.resolve(Ref.default("docker.io/library/mine:1"))
    assert image is not None
    await docker.services.operations.finish(docker.services.images.start_delete(image.ref))
    status, body, _ = await raw(docker, "POST", "/images/load", data=data)
    lines = [json.loads(line) for line in body.splitlines()]
    assert {"stream": "Loaded image: mine:1\n"} in lines
    assert docker.services.images.resolve(image.ref) is not None
    status, body, _ = await raw(docker, "POST", "/images/load?quiet=1", data=b"x" * 2000)
    assert (status, "not a tar archive" in json.loads(body)["error"]) == (200, True)
    assert (await raw(docker, "GET", "/images/gone/get"))[0] == 404
    assert (await raw(docker, "GET", "/images/get"))[0] == 400
    assert list(docker.services.images.store.scratch.iterdir()) == []
