"""Templates of images: the files that are written, when, and in which process they are rendered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping

import pytest
from tars import directory, member, tar

from isola.errors import InvalidInput, NotFound
from isola.instances.metadata import Metadata
from isola.instances.templates import plain
from isola.model.instance import InstanceUpdate
from isola.model.reference import Ref
from isola.model.template import Template
from isola.testing.parts import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    world.forget()


async def take_in(
    world: World, templates: Mapping[str, object], texts: Mapping[str, str], alias: str = "made", **root: str
) -> str:
    """Import an image with templates and files in its root."""
    head = {"architecture": "x86_64", "creation_date": 1_700_000_000, "templates": templates}
    members = [member("metadata.yaml", json.dumps(head).encode())]
    members += [member(f"templates/{name}", text.encode()) for name, text in texts.items()]
    members += [directory("rootfs"), directory("rootfs/etc"), member("rootfs/init", b"#!/bin/sh\n")]
    members += [member(f"rootfs/etc/{name}", text.encode(), uid=7, mode=0o600) for name, text in root.items()]
    file = world.directory / "uploads" / alias
    await world.host.files.make_directory(file.parent)
    await world.host.files.write(file, tar(*members))
    operation = world.parts.services.images.start_import([file], aliases=[alias])
    await world.finish(operation)
    return str(operation.metadata["fingerprint"])


def template(name: str, *when: str, **more: object) -> dict[str, object]:
    return {"template": name, "when": list(when), "properties": {}, **more}


async def text_of(world: World, name: str, path: str) -> str | None:
    async with world.parts.services.instances.files(Ref.default(name)) as root:
        try:
            return b"".join([block async for block in await root.read(path)]).decode()
        except NotFound:
            return None


async def started(world: World, name: str) -> None:
    await world.finish(world.parts.services.instances.start(Ref.default(name)))


async def stopped(world: World, name: str) -> None:
    await world.finish(world.parts.services.instances.stop(Ref.default(name)))


async def test_the_hostname_of_the_image_is_replaced(world: World) -> None:
    await world.import_image()
    await world.create("web1")
    assert await text_of(world, "web1", "/etc/hostname") == "tiny\n"
    await started(world, "web1")
    assert await text_of(world, "web1", "/etc/hostname") == "web1\n"


@pytest.mark.parametrize(("said", "expected"), [(None, "web2\n"), ("mail.example\n", "mail.example\n")])
async def test_a_rename_replaces_the_old_name_but_not_one_of_the_user(
    world: World, said: str | None, expected: str
) -> None:
    await world.import_image()
    await world.create("web1", start=True)
    if said is not None:
        async with world.parts.services.instances.files(Ref.default("web1")) as root:
            await root.write("/etc/hostname", _content(said), uid=-1, gid=-1, mode=None)
    await stopped(world, "web1")
    for old, new in (("web1", "between"), ("between", "web2")):
        await world.finish(world.parts.services.instances.rename(Ref.default(old), new))
    await started(world, "web2")
    assert await text_of(world, "web2", "/etc/hostname") == expected


async def configured(world: World, config: dict[str, str]) -> None:
    ref = Ref.default("web1")
    await stopped(world, "web1")
    wanted = InstanceUpdate(config=config, devices={}, profiles=("default",))
    await world.finish(world.parts.services.instances.update(ref, lambda _: wanted))
    await started(world, "web1")


async def test_a_hostname_that_is_configured_wins_and_the_name_comes_back_without_it(world: World) -> None:
    await world.import_image()
    await world.create("web1", start=True, config={"isola.hostname": "mail.example.org"})
    assert world.on_host("web1").spec.hostname == "mail.example.org"
    assert await text_of(world, "web1", "/etc/hostname") == "mail.example.org\n"
    await configured(world, {"isola.hostname": "other_1"})
    assert world.on_host("web1").spec.hostname == "other_1"
    assert await text_of(world, "web1", "/etc/hostname") == "other_1\n"
    await configured(world, {})
    assert world.on_host("web1").spec.hostname == "web1"
    assert await text_of(world, "web1", "/etc/hostname") == "web1\n"


async def test_a_user_changes_what_a_configured_hostname_wrote_and_it_stays(world: World) -> None:
    await world.import_image()
    await world.create("web1", start=True, config={"isola.hostname": "mail"})
    async with world.parts.services.instances.files(Ref.default("web1")) as root:
        await root.write("/etc/hostname", _content("mine\n"), uid=-1, gid=-1, mode=None)
    for config in ({"isola.hostname": "mail"}, {}):
        await configured(world, config)
        assert await text_of(world, "web1", "/etc/hostname") == "mine\n"


@pytest.mark.parametrize("value", ["a b", "-a", "a..b", ".a", "x" * 65, "ä", "a/b", "a\nb"])
async def test_invalid_hostnames_are_refused(world: World, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await world.create("web1", config={"isola.hostname": value})
    assert caught.value.field == "config.isola.hostname"


async def test_no_hostname_is_invented(world: World) -> None:
    await take_in(world, {}, {}, motd="hello")
    await world.create("web1", start=True, image="made")
    assert await text_of(world, "web1", "/etc/hostname") is None
    await take_in(world, {}, {}, "empty", hostname="# set by the host\n")
    await world.create("web2", start=True, image="empty")
    assert await text_of(world, "web2", "/etc/hostname") == "# set by the host\n"


async def test_templates_are_applied_at_their_triggers(world: World) -> None:
    templates = {
        "/etc/born": template("t.tpl", "create"),
        "/etc/renamed": template("t.tpl", "rename"),
        "/etc/begun/deep/each": template("t.tpl", "start"),
        "/etc/copied": template("t.tpl", "copy"),
    }
    await take_in(world, templates, {"t.tpl": "{{ container.name }} {{ trigger }} {{ path }}"})
    await world.create("web1", image="made")
    assert await text_of(world, "web1", "/etc/born") is None
    await started(world, "web1")
    assert await text_of(world, "web1", "/etc/born") == "web1 create /etc/born"
    assert await text_of(world, "web1", "/etc/renamed") is None
    await stopped(world, "web1")
    await world.finish(world.parts.services.instances.rename(Ref.default("web1"), "web2"))
    await started(world, "web2")
    assert await text_of(world, "web2", "/etc/born") == "web1 create /etc/born"
    assert await text_of(world, "web2", "/etc/renamed") == "web2 rename /etc/renamed"
    assert await text_of(world, "web2", "/etc/begun/deep/each") == "web2 start /etc/begun/deep/each"
    assert await text_of(world, "web2", "/etc/copied") is None
    async with world.parts.services.instances.files(Ref.default("web2")) as root:
        entry = await root.stat("/etc/begun/deep/each")
        assert (entry.uid, entry.gid, entry.mode) == (0, 0, 0o644)


async def test_triggers_remain_until_a_start_succeeds(world: World) -> None:
    await take_in(world, {"/etc/hostname": template("h.tpl", "create", "rename")}, {"h.tpl": "{{ instance.name }}\n"})
    await world.create("web1", image="made")
    await world.finish(world.parts.services.instances.rename(Ref.default("web1"), "web2"))
    assert world.parts.services.instances.get(Ref.default("web2")).volatile["apply_template"] == "create"
    await started(world, "web2")
    assert await text_of(world, "web2", "/etc/hostname") == "web2\n"
    assert "apply_template" not in world.parts.services.instances.get(Ref.default("web2")).volatile
    await stopped(world, "web2")
    await world.finish(world.parts.services.instances.rename(Ref.default("web2"), "web3"))
    assert world.parts.services.instances.get(Ref.default("web3")).volatile["apply_template"] == "rename"


async def test_existing_files_keep_their_owner_or_content(world: World) -> None:
    templates = {"/etc/kept": template("t", "create", create_only="true"), "/etc/changed": template("t", "create")}
    await take_in(world, templates, {"t": "new"}, kept="old", changed="old")
    await world.create("web1", image="made", start=True)
    assert [await text_of(world, "web1", f"/etc/{name}") for name in ("kept", "changed")] == ["old", "new"]
    async with world.parts.services.instances.files(Ref.default("web1")) as root:
        entry = await root.stat("/etc/changed")
        assert (entry.uid, entry.mode) == (7, 0o600)


async def test_configuration_and_properties_are_given(world: World) -> None:
    text = "{{ config_get('user.meta', properties.otherwise) }}|{{ config['image.os'] }}|{{ devices.root.path }}"
    await take_in(world, {"/etc/x": template("t", "start", properties={"otherwise": "none"})}, {"t": text})
    await world.create("web1", image="made", start=True)
    assert await text_of(world, "web1", "/etc/x") == "none||/"
    await stopped(world, "web1")
    change = InstanceUpdate(config={"user.meta": "mine\n"}, devices={}, profiles=("default",))
    await world.finish(world.parts.services.instances.update(Ref.default("web1"), lambda _: change))
    await started(world, "web1")
    assert await text_of(world, "web1", "/etc/x") == "mine||/"


async def test_no_process_is_started_for_a_name_or_for_nothing(world: World) -> None:
    await take_in(
        world,
        {"/etc/hostname": template("h", "create", "start"), "/etc/hosts": template("hosts", "create")},
        {"h": "{{ container.name }}\n", "hosts": "127.0.1.1 {{container.name}} {{ instance.name }}\n"},
    )
    await world.create("web1", image="made", start=True)
    assert await text_of(world, "web1", "/etc/hosts") == "127.0.1.1 web1 web1\n"
    await world.import_image()
    await world.create("web2", start=True)
    assert world.host.templates.asked == 0


@pytest.mark.parametrize("text", ["{{ name }}", "{% if a %}", "{# x #}", "{{- container.name }}", "{{ config.x }}"])
def test_templates_with_expressions_are_rendered_in_a_process(text: str) -> None:
    assert plain("a {{ container.name }}" + text, "web1") is None
    assert plain("} {{ container.name }} }} %", "web1") == "} web1 }} %"


async def test_failing_templates_do_not_prevent_a_start(world: World, caplog: pytest.LogCaptureFixture) -> None:
    templates = {
        "/etc/hostname": template("bad", "create"),
        "/etc": template("good", "create"),
        "/etc/motd/x": template("good", "create"),
        "/../../etc/up": template("good", "create"),
    }
    await take_in(world, templates, {"bad": "{% if", "good": "good"}, hostname="builder\n", motd="m")
    await world.create("web1", image="made", start=True)
    assert await text_of(world, "web1", "/etc/hostname") == "web1\n"
    assert await text_of(world, "web1", "/etc/up") == "good"
    told = [record.getMessage() for record in caplog.records if "Template" in record.getMessage()]
    assert len(told) == 3 and any("TemplateSyntaxError" in line for line in told)


async def test_templates_outlive_their_image(world: World) -> None:
    fingerprint = await take_in(world, {"/etc/x": template("t", "create")}, {"t": "{{ container.name }}"})
    await world.create("web1", image="made")
    await world.finish(world.parts.services.images.start_delete(Ref.default(fingerprint)))
    await started(world, "web1")
    assert await text_of(world, "web1", "/etc/x") == "web1"


async def test_a_record_of_an_earlier_version_is_looked_up_once(world: World) -> None:
    fingerprint = await take_in(world, {"/etc/x": template("t", "create")}, {"t": "x"})
    images = world.parts.records.images
    (image,) = [image for image in images if image.fingerprint == fingerprint]
    await images.change(image.ref.renamed(image.manifest), lambda image: dataclasses.replace(image, templates=None))
    await world.create("web1", image="made", start=True)
    assert await text_of(world, "web1", "/etc/x") == "x"
    assert len(images.get(image.ref.renamed(image.manifest)).templates or ()) == 1


async def test_templates_are_limited(world: World) -> None:
    with pytest.raises(InvalidInput, match="more than"):
        await take_in(world, {"/etc/x": template("t", "create")}, {"t": "x" * (1 << 20)})
    with pytest.raises(InvalidInput, match="more than"):
        await take_in(world, {f"/etc/{n}": template("t", "create") for n in range(101)}, {"t": "x"})


async def _content(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def test_templates_that_a_client_has_written_are_applied_at_the_next_start(world: World) -> None:
    """A template without a file is left out."""
    await take_in(world, {"/etc/own": template("a.tpl", "start")}, {"a.tpl": "image"})
    await world.create("web1", image="made")

    def changed(found: Metadata) -> Metadata:
        missing = Template("/etc/missing", ("start",), None, "missing.tpl")
        return dataclasses.replace(found.with_file("a.tpl", "own"), paths={**found.paths, "/etc/missing": missing})

    await world.finish(world.parts.services.instances.change_metadata(Ref.default("web1"), changed))
    await started(world, "web1")
    assert await text_of(world, "web1", "/etc/own") == "own"
    assert await text_of(world, "web1", "/etc/missing") is None
