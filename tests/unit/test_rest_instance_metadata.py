"""Metadata and templates of instances over the door, as LXD documents them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from heard import lifecycle
from rest_door import Stand, standing

from isola.model.event import EventKind
from isola.model.reference import Ref
from isola.model.template import Template

WEB, TEXT = "/1.0/instances/web1", {"Content-Type": "application/octet-stream"}
META, TEMPLATES = f"{WEB}/metadata", f"{WEB}/metadata/templates"
MOTD = {"when": ["create"], "create_only": False, "template": "motd.tpl", "properties": {}}


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as made:
        await made.create("web1")
        template = Template("/etc/motd", ("create",), "welcome\n", "motd.tpl")
        await made.world.context.records.change(
            Ref.default("web1"),
            lambda web: dataclasses.replace(web, start=dataclasses.replace(web.start, templates=(template,))),
        )
        yield made


async def text(stand: Stand, name: str) -> str:
    async with stand.session.get(f"http://isola{TEMPLATES}?path={name}") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def put(stand: Stand, name: str, data: bytes) -> int:
    return (await stand.ask("POST", f"{TEMPLATES}?path={name}", data=data, headers=TEXT))[0]


async def test_metadata_is_replaced_and_changed(stand: Stand) -> None:
    assert "container_edit_metadata" in (await stand.get("/1.0"))["api_extensions"]
    found = await stand.get(META)
    assert found["templates"] == {"/etc/motd": MOTD}
    async with stand.session.get(f"http://isola{META}") as answer:
        tag = answer.headers["ETag"]
    wanted = {
        "architecture": "aarch64",
        "creation_date": 1700000000,
        "expiry_date": 1800000000,
        "properties": {"os": "Own", "release": "1"},
        "templates": {"/etc/motd": MOTD | {"when": ["start"]}, "/etc/later": MOTD | {"template": "later.tpl"}},
    }
    assert (await stand.ask("PUT", META, wanted, headers={"If-Match": tag}))[0] == 200
    assert await stand.get(META) == wanted
    assert (await stand.ask("PUT", META, wanted, headers={"If-Match": tag}))[0] == 412
    assert await stand.get(TEMPLATES) == ["motd.tpl"]  # the other one is listed, but has no file yet
    change = {"properties": {"release": "2", "os": ""}, "templates": {"/etc/more": MOTD | {"create_only": True}}}
    assert (await stand.ask("PATCH", META, change))[0] == 200
    found = await stand.get(META)
    assert (found["properties"], found["architecture"]) == ({"release": "2"}, "aarch64")
    assert sorted(found["templates"]) == ["/etc/later", "/etc/more", "/etc/motd"]
    assert found["templates"]["/etc/more"]["create_only"] is True
    assert (await stand.get(WEB))["config"]["image.release"] == "1"
    assert (await stand.ask("PUT", META, {}))[0] == 200
    assert (await stand.get(META))["templates"] == {}
    assert await text(stand, "motd.tpl") == "welcome\n"


async def test_templates_are_created_replaced_and_deleted(stand: Stand) -> None:
    assert await put(stand, "own.tpl", b"one") == 200
    assert await stand.get(TEMPLATES) == ["motd.tpl", "own.tpl"]
    assert (await stand.get(META))["templates"] == {"/etc/motd": MOTD}
    assert (await stand.ask("PATCH", META, {"templates": {"/own": MOTD | {"template": "own.tpl"}}}))[0] == 200
    assert await put(stand, "own.tpl", "zwei ü".encode()) == 200
    assert await text(stand, "own.tpl") == "zwei ü"
    assert await put(stand, "empty.tpl", b"") == 200
    assert await text(stand, "empty.tpl") == ""
    assert (await stand.ask("DELETE", f"{TEMPLATES}?path=own.tpl"))[0] == 200
    assert await stand.get(TEMPLATES) == ["empty.tpl", "motd.tpl"]
    assert (await stand.ask("DELETE", f"{TEMPLATES}?path=own.tpl"))[0] == 404
    assert "/own" in (await stand.get(META))["templates"]


async def test_changes_of_templates_publish_events(stand: Stand) -> None:
    followed = aiter(stand.services.events.follow({EventKind.LIFECYCLE}))
    await stand.get(TEMPLATES)
    await stand.get(META)
    await stand.ask("PATCH", META, {"architecture": "x"})
    await put(stand, "a", b"x")
    await text(stand, "a")
    await stand.ask("DELETE", f"{TEMPLATES}?path=a")
    told = [lifecycle(await anext(followed)) for _ in range(5)]
    assert [(each.action, each.context.get("path")) for each in told] == [
        ("instance-metadata-retrieved", None),
        ("instance-metadata-updated", None),
        ("instance-metadata-template-created", "a"),
        ("instance-metadata-template-retrieved", "a"),
        ("instance-metadata-template-deleted", "a"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", META, {"properties": "x"}, "properties"),
        ("PUT", META, {"creation_date": -1}, "creation_date"),
        ("PUT", META, {"expiry_date": 10**15}, "expiry_date"),
        ("PUT", META, {"architecture": 7}, "architecture"),
        ("PUT", META, {"templates": {"/a": "x"}}, "templates./a"),
        ("PUT", META, {"templates": {"/a": {"when": ["create"]}}}, "templates./a.template"),
        ("PUT", META, {"templates": {"/a": {"template": "../x"}}}, "templates./a.template"),
        ("PUT", META, {"templates": {"/a": {"template": "x", "when": "create"}}}, "templates./a.when"),
        ("PUT", META, {"templates": {f"/{n}": {"template": "x"} for n in range(101)}}, "templates"),
        ("POST", TEMPLATES, None, "path"),
        ("POST", f"{TEMPLATES}?path=../x", None, "path"),
        ("POST", f"{TEMPLATES}?path=..", None, "path"),
        ("DELETE", TEMPLATES, None, "path"),
        ("GET", f"{TEMPLATES}?path=none", None, "path"),
        ("DELETE", f"{TEMPLATES}?path=none", None, "path"),
    ],
)
async def test_what_is_wrong_is_refused(stand: Stand, method: str, path: str, body: Any, field: str) -> None:
    before = await stand.get(META), await stand.get(TEMPLATES)
    answer = await stand.ask(method, path, body)
    assert (answer[0], answer[1]["metadata"]["field"]) == (404 if "none" in path else 400, field)
    assert (await stand.get(META), await stand.get(TEMPLATES)) == before


async def test_sizes_are_limited(stand: Stand) -> None:
    assert await put(stand, "large", b"x" * (256 << 10)) == 400  # with the existing one
    assert await put(stand, "larger", b"x" * (257 << 10)) == 413
    assert await put(stand, "binary", b"\xff\xfe") == 400
    assert await stand.get(TEMPLATES) == ["motd.tpl"]


@pytest.mark.parametrize("part", ["properties", "templates"])
async def test_changes_do_not_add_up_to_a_record_without_bound(stand: Stand, part: str) -> None:
    """Each one is small enough; what is there can still be made smaller."""
    text = "x" * (100 << 10)

    async def add(name: str) -> int:
        change = {name: text} if part == "properties" else {f"/{name}": MOTD | {"properties": {"a": text}}}
        return (await stand.ask("PATCH", META, {part: change}))[0]

    assert [await add(name) for name in ("a", "b", "c")] == [200, 200, 400]
    assert sorted((await stand.get(META))[part])[-1][-1] != "c"
    assert (await stand.ask("PUT", META, {}))[0] == 200
    assert await add("c") == 200


async def test_snapshots_and_copies_have_them(stand: Stand) -> None:
    await stand.finish("POST", f"{WEB}/snapshots", {"name": "s1"})
    assert await put(stand, "own.tpl", b"one") == 200
    assert (await stand.ask("PATCH", META, {"properties": {"a": "b"}}))[0] == 200
    source = {"type": "copy", "source": "web1"}
    await stand.finish("POST", "/1.0/instances", {"name": "web2", "source": source})
    assert await stand.get("/1.0/instances/web2/metadata/templates") == ["motd.tpl", "own.tpl"]
    assert (await stand.get("/1.0/instances/web2/metadata"))["properties"]["a"] == "b"
    await stand.finish("POST", "/1.0/instances", {"name": "old", "source": {"type": "copy", "source": "web1/s1"}})
    assert await stand.get("/1.0/instances/old/metadata/templates") == ["motd.tpl"]
    await stand.finish("POST", "/1.0/instances", {"name": "old", "source": source | {"refresh": True}})
    assert await stand.get("/1.0/instances/old/metadata/templates") == ["motd.tpl", "own.tpl"]
    assert (await stand.finish("PUT", WEB, {"restore": "s1"}))["status_code"] == 200
    assert await stand.get(TEMPLATES) == ["motd.tpl"]
    assert "a" not in (await stand.get(META))["properties"]
    await stand.finish("PUT", "/1.0/instances/web2", {"restore": "s1"})
    assert await stand.get("/1.0/instances/web2/metadata/templates") == ["motd.tpl"]
