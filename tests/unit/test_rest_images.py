"""Images over the door: uploads, exports, aliases."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from heard import lifecycle
from rest_door import Stand, standing
from tars import member, packed, tar

from isola.model.event import EventKind

DESCRIPTION = member("metadata.yaml", b'{"architecture": "x86_64", "creation_date": 1700000000}')
UNIFIED = packed(tar(DESCRIPTION, member("rootfs/sbin/init", os.urandom(3_000_000))), "gzip")
PARTS = {
    "metadata": packed(tar(DESCRIPTION), "gzip"),
    "rootfs": packed(tar(member("sbin/init", os.urandom(2_500_000))), "gzip"),
}
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing(tiny=False) as open_door:
        yield open_door


@pytest.fixture
async def image_imported(stand: Stand) -> str:
    headers = {**OCTETS, "X-LXD-properties": "os=Debian&description=A%20b", "X-LXD-filename": "../../x/i.tar.gz"}
    ended = await stand.finish("POST", "/1.0/images", data=UNIFIED, headers=headers)
    assert ended["status"] == "Success", ended
    return str(ended["metadata"]["fingerprint"])


def _form(parts: dict[str, bytes]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, data in parts.items():
        form.add_field(name, data, filename=f"{name}.tar.gz", content_type="application/octet-stream")
    return form


async def test_a_unified_upload_is_exported_unchanged(stand: Stand, image_imported: str) -> None:
    assert image_imported == hashlib.sha256(UNIFIED).hexdigest()
    shown = await stand.get(f"/1.0/images/{image_imported[:12]}")
    assert (shown["properties"], shown["filename"]) == ({"os": "Debian", "description": "A b"}, "i.tar.gz")
    async with stand.session.get(f"http://isola/1.0/images/{image_imported}/export") as answer:
        assert await answer.read() == UNIFIED
        assert answer.headers["Content-Disposition"] == f"inline;filename={image_imported}.tar.gz"
        assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_a_split_upload_is_exported_unchanged(stand: Stand) -> None:
    ended = await stand.finish("POST", "/1.0/images", data=_form(PARTS))
    fingerprint = ended["metadata"]["fingerprint"]
    assert fingerprint == hashlib.sha256(b"".join(PARTS.values())).hexdigest()
    async with stand.session.get(f"http://isola/1.0/images/{fingerprint}/export") as answer:
        reader = aiohttp.MultipartReader.from_response(answer)
        found = {}
        while (part := await reader.next()) is not None:
            assert isinstance(part, aiohttp.BodyPartReader)
            assert part.filename
            found[part.name] = bytes(await part.read())
        assert found == PARTS
        length = int(answer.headers["Content-Length"])
    async with stand.session.get(f"http://isola/1.0/images/{fingerprint}/export") as answer:
        assert len(await answer.read()) == length


@pytest.mark.parametrize(
    "parts",
    [{"metadata": b"m"}, {"rootfs": b"r", "metadata": b"m"}, {"a": b"m", "b": b"r"}, {**PARTS, "more": b"x"}],
)
async def test_wrong_parts_are_refused(stand: Stand, parts: dict[str, bytes]) -> None:
    status, body = await stand.ask("POST", "/1.0/images", data=_form(parts))
    assert (status, body["metadata"]["field"]) == (400, "body")


@pytest.mark.parametrize(
    ("headers", "data", "field"),
    [
        (OCTETS, b"", "body"),
        ({"Content-Type": "multipart/form-data"}, b"x", "body"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b\r\nnonsense", "body"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"nonsense", "body"),
        ({"Content-Type": "application/json"}, b"nonsense", "body"),
        ({**OCTETS, "X-LXD-properties": "a=%ff"}, b"x", "X-LXD-properties"),
        ({**OCTETS, "X-LXD-properties": "a=%00"}, b"x", "X-LXD-properties"),
        ({**OCTETS, "X-LXD-aliases": "alias=../x"}, b"x", "name"),
    ],
)
async def test_wrong_uploads_name_what_is_wrong(stand: Stand, headers: dict[str, str], data: bytes, field: str) -> None:
    status, body = await stand.ask("POST", "/1.0/images", data=data, headers=headers)
    assert (status, body["metadata"]["field"]) == (400, field)


async def test_a_damaged_upload_fails(stand: Stand) -> None:
    headers = {**OCTETS, "X-LXD-fingerprint": "0" * 64}
    ended = await stand.finish("POST", "/1.0/images", data=b"x", headers=headers)
    assert (ended["status"], ended["metadata"]["error"]["field"]) == ("Failure", "fingerprint")


async def test_an_aborted_upload_leaves_no_files(stand: Stand) -> None:
    _, writer = await asyncio.open_unix_connection(stand.path)
    head = "POST /1.0/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 9999999"
    writer.write(head.encode() + b"\r\n\r\n" + b"x" * 2_000_000)
    await writer.drain()
    scratch = stand.services.images.store.scratch
    await _until(lambda: scratch.exists() and any(scratch.iterdir()))
    writer.close()
    await _until(lambda: not any(scratch.iterdir()))
    assert not list(stand.services.images)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


async def test_building_from_a_source(stand: Stand) -> None:
    source = {"type": "image", "protocol": "build", "alias": "debian/12", "options": {"packages": "vim"}}
    body = {"source": source, "aliases": [{"name": "my/debian"}], "public": True}
    ended = await stand.finish("POST", "/1.0/images", body)
    assert ended["status"] == "Success", ended
    fingerprint = ended["metadata"]["fingerprint"]
    shown = await stand.get(f"/1.0/images/{fingerprint}")
    assert (shown["public"], [alias["name"] for alias in shown["aliases"]]) == (True, ["my/debian"])
    assert (shown["properties"]["os"], shown["properties"]["release"]) == ("Debian", "bookworm")


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({}, "source.type"),
        ("debian", "source"),
        ({"type": "instance", "name": "web1/snap0"}, "source.name"),
        ({"type": "snapshot", "name": "web1"}, "source.name"),
        ({"type": "url", "url": "https://x"}, "source.type"),
        ({"type": "image", "server": "https://x", "protocol": "simplestreams", "alias": "x"}, "source.protocol"),
        ({"type": "image", "protocol": "build"}, "source.alias"),
        ({"type": "image", "protocol": "build", "alias": "plan9"}, "source.alias"),
    ],
)
async def test_wrong_sources_name_their_field(stand: Stand, source: object, field: str) -> None:
    status, body = await stand.ask("POST", "/1.0/images", {"source": source})
    assert status in (400, 404)
    assert body["metadata"]["field"] == field


async def test_an_instance_is_published(stand: Stand) -> None:
    await stand.world.import_image()
    await stand.create("web1")
    source = {"type": "instance", "name": "web1", "changes": ['CMD ["/bin/x"]'], "message": "why"}
    body = {"source": source, "aliases": [{"name": "mine"}], "public": True, "properties": {"description": "ours"}}
    ended = await stand.finish("POST", "/1.0/images", body)
    assert ended["status"] == "Success", ended
    shown = await stand.get(f"/1.0/images/{ended['metadata']['fingerprint']}")
    assert ([alias["name"] for alias in shown["aliases"]], shown["public"]) == (["mine"], True)
    assert shown["properties"]["description"] == "ours"
    await stand.finish("POST", "/1.0/instances/web1/snapshots", {"name": "s0"})
    ended = await stand.finish("POST", "/1.0/images", {"source": {"type": "snapshot", "name": "web1/s0"}})
    assert ended["status"] == "Success", ended


async def test_images_are_listed_filtered_changed_and_deleted(stand: Stand, image_imported: str) -> None:
    path = f"/1.0/images/{image_imported}"
    assert await stand.get("/1.0/images") == [path]
    assert len(await stand.get("/1.0/images?recursion=1&filter=properties.os+eq+debian")) == 1
    assert await stand.get("/1.0/images?filter=properties.os+eq+arch") == []
    async with stand.session.get(f"http://isola{path}") as answer:
        tag = answer.headers["ETag"]
    change = {"properties": {"description": "", "os": "Other"}, "public": True, "expires_at": "2030-01-01T00:00:00Z"}
    assert (await stand.ask("PATCH", path, change, headers={"If-Match": tag}))[0] == 200
    shown = await stand.get(path)
    assert (shown["properties"], shown["public"]) == ({"os": "Other"}, True)
    assert shown["expires_at"] == "2030-01-01T00:00:00Z"
    assert (await stand.ask("PUT", path, {"properties": {"a": "b"}}, headers={"If-Match": tag}))[0] == 412
    assert (await stand.ask("PUT", path, {"properties": {"a": "b"}}))[0] == 200
    shown = await stand.get(path)
    assert (shown["properties"], shown["public"], shown["profiles"]) == ({"a": "b"}, False, ["default"])
    assert (await stand.ask("POST", f"{path}/refresh"))[0] == 501
    await stand.finish("DELETE", path)
    assert (await stand.ask("GET", path))[0] == 404


async def test_aliases(stand: Stand, image_imported: str) -> None:
    root = "/1.0/images/aliases"
    body = {"name": "debian/12", "target": image_imported, "description": "d"}
    async with stand.session.post(f"http://isola{root}", json=body) as answer:
        assert (answer.status, answer.headers["Location"]) == (201, f"{root}/debian/12")
    assert (await stand.ask("POST", root, body))[0] == 409
    assert (await stand.ask("POST", root, {"name": "x", "target": "nope"}))[0] == 404
    assert (await stand.ask("POST", root, {"name": "../x", "target": image_imported}))[0] == 400
    entry = {"name": "debian/12", "description": "d", "target": image_imported, "type": "container"}
    assert await stand.get(f"{root}/debian%2F12") == await stand.get(f"{root}/debian/12") == entry
    assert await stand.get(root) == [f"{root}/debian/12"]
    assert (await stand.ask("PATCH", f"{root}/debian/12", {"description": "e"}))[0] == 200
    assert (await stand.get(f"{root}?recursion=1"))[0]["description"] == "e"
    assert (await stand.ask("PUT", f"{root}/debian/12", {"target": image_imported}))[0] == 200
    assert (await stand.ask("POST", f"{root}/debian/12", {"name": "deb"}))[0] == 201
    assert (await stand.ask("DELETE", f"{root}/deb"))[0] == 200
    status, body = await stand.ask("GET", f"{root}/debian%2F12")
    assert (status, body["metadata"]["remedy"]) == (404, "an image source offers debian/12: build it first")


async def test_times_that_were_never_set_are_those_of_lxd(stand: Stand, image_imported: str) -> None:
    shown = await stand.get(f"/1.0/images/{image_imported}")
    assert (shown["last_used_at"], shown["expires_at"]) == ("0001-01-01T00:00:00Z",) * 2


async def test_an_alias_may_end_in_a_slash(stand: Stand, image_imported: str) -> None:
    root = "/1.0/images/aliases"
    assert (await stand.ask("POST", root, {"name": "a/b/", "target": image_imported}))[0] == 201
    assert (await stand.get(f"{root}/a%2Fb%2F"))["name"] == "a/b/"


async def test_a_secret_is_an_operation_that_can_be_ended(stand: Stand, image_imported: str) -> None:
    status, answer = await stand.ask("POST", f"/1.0/images/{image_imported}/secret")
    assert (status, answer["metadata"]["class"]) == (202, "token")
    assert len(answer["metadata"]["metadata"]["secret"]) == 64
    assert (await stand.ask("DELETE", answer["operation"]))[0] == 200
    assert (await stand.get(f"{answer['operation']}/wait"))["status"] == "Cancelled"


async def test_downloads_and_secrets_publish_events(stand: Stand, image_imported: str) -> None:
    events = stand.services.events.follow([EventKind.LIFECYCLE])
    for method in ("HEAD", "GET"):
        async with stand.session.request(method, f"http://isola/1.0/images/{image_imported}/export") as answer:
            assert answer.status == 200
    _, body = await stand.ask("POST", f"/1.0/images/{image_imported}/secret")
    assert (await stand.ask("DELETE", body["operation"]))[0] == 200
    events.close()
    assert [lifecycle(event).action async for event in events] == ["image-retrieved", "image-secret-created"]


async def _of_this_server(stand: Stand, **more: object) -> dict[str, object]:
    """The source as sent by ``lxc image copy --target-project``."""
    certificate = (await stand.services.identity.ensure()).certificate
    return {"type": "image", "mode": "pull", "protocol": "lxd", "certificate": certificate, "project": "default"} | more


async def test_an_image_is_copied_to_another_project(stand: Stand, image_imported: str) -> None:
    assert {"image_source_project", "image_copy_profile"} <= set((await stand.get("/1.0"))["api_extensions"])
    assert (await stand.ask("POST", "/1.0/projects", {"name": "b"}))[0] == 201
    here, there = f"/1.0/images/{image_imported}", f"/1.0/images/{image_imported}?project=b"
    assert (await stand.ask("PATCH", here, {"public": True, "profiles": ["default"]}))[0] == 200
    source = await _of_this_server(stand, server="https://127.0.0.1:8443", fingerprint=image_imported)
    body = {"source": source, "aliases": [{"name": "mine"}], "profiles": None, "expires_at": "0001-01-01T00:00:00Z"}
    ended = await stand.finish("POST", "/1.0/images?project=b", body)
    assert (ended["status"], ended["metadata"]["fingerprint"]) == ("Success", image_imported), ended
    shown = await stand.get(there)
    assert (shown["public"], [each["name"] for each in shown["aliases"]]) == (False, ["mine"])
    assert shown["properties"]["os"] == "Debian"
    more = {"public": True, "properties": {"note": "1"}, "profiles": []}
    ended = await stand.finish("POST", "/1.0/images?project=b", body | more)
    assert ended["status"] == "Success", ended
    shown = await stand.get(there)
    assert (shown["public"], shown["properties"]["note"], shown["profiles"]) == (True, "1", [])
    assert "note" not in (await stand.get(here))["properties"]
    assert (await stand.finish("DELETE", here))["status"] == "Success"
    async with stand.session.get(f"http://isola/1.0/images/{image_imported}/export?project=b") as answer:
        assert await answer.read() == UNIFIED


@pytest.mark.parametrize(
    ("more", "status", "field"),
    [
        ({"fingerprint": "0" * 64}, 404, "source.fingerprint"),
        ({"alias": "none"}, 404, "source.fingerprint"),
        ({}, 400, "source.fingerprint"),
        ({"fingerprint": "ALL", "project": "none"}, 404, "source.fingerprint"),
        ({"fingerprint": "ALL", "certificate": "other"}, 400, "source.protocol"),
        ({"fingerprint": "ALL", "protocol": "simplestreams"}, 400, "source.protocol"),
        ({"fingerprint": "ALL", "mode": "push", "type": ""}, 400, "source.mode"),
    ],
)
async def test_a_copy_of_a_missing_image_is_refused(
    stand: Stand, image_imported: str, more: dict[str, str], status: int, field: str
) -> None:
    if more.get("fingerprint") == "ALL":
        more = more | {"fingerprint": image_imported}
    answer = await stand.ask("POST", "/1.0/images", {"source": await _of_this_server(stand, **more)})
    assert (answer[0], answer[1]["metadata"]["field"]) == (status, field)


async def test_an_alias_of_another_image_is_not_taken_over(stand: Stand, image_imported: str) -> None:
    ended = await stand.finish("POST", "/1.0/images", data=_form(PARTS))
    assert (await stand.ask("POST", "/1.0/projects", {"name": "b"}))[0] == 201
    body = {"source": await _of_this_server(stand, fingerprint=image_imported), "aliases": [{"name": "mine"}]}
    assert (await stand.finish("POST", "/1.0/images?project=b", body))["status"] == "Success"
    other = body | {"source": await _of_this_server(stand, fingerprint=ended["metadata"]["fingerprint"])}
    assert (await stand.ask("POST", "/1.0/images?project=b", other))[0] == 409
