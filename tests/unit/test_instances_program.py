"""What an instance runs: its image's program, one that its creator asked for, or one that its configuration names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isola.errors import InvalidInput
from isola.instances.copy import Source
from isola.model.image import ImageConfig
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate
from isola.model.program import Program, command_of, require_valid
from isola.model.reference import Ref
from isola.testing.parts import World

ENTRYPOINT, COMMAND = ("/entry", "-x"), ("/entry", "-x", "serve", "80")
NGINX = ImageConfig(
    command=COMMAND, entrypoint=ENTRYPOINT, environment={"A": "1"}, cwd="/srv", user="web:www", stop_signal="SIGQUIT"
)


@pytest.mark.parametrize(
    ("program", "entrypoint", "command"),
    [
        (Program(), ENTRYPOINT, COMMAND),
        (Program(entrypoint=(), arguments=()), (), ("serve", "80")),
        (Program(arguments=("help",)), ENTRYPOINT, (*ENTRYPOINT, "help")),
        (Program(entrypoint=("/sh",)), ("/sh",), ("/sh",)),
        (Program(entrypoint=("/sh",), arguments=("-c", "id")), ("/sh",), ("/sh", "-c", "id")),
        (Program(entrypoint=("",)), (), ()),
        (Program(entrypoint=("",), arguments=("id",)), (), ("id",)),
    ],
    ids=["image", "no entrypoint", "arguments", "entrypoint", "both", "reset", "reset with arguments"],
)
def test_a_given_entrypoint_drops_the_arguments_of_the_image(
    program: Program, entrypoint: tuple[str, ...], command: tuple[str, ...]
) -> None:
    assert command_of(program, ENTRYPOINT, COMMAND) == (entrypoint, command)


@pytest.mark.parametrize(
    "program",
    [
        Program(arguments=("a\0b",)),
        Program(arguments=("x",) * 5000),
        Program(arguments=("x" * 131_072,)),
        Program(arguments=("x" * 100_000,) * 20),
        Program(cwd="srv"),
        Program(user="u" * 700),
        Program(stop_signal="SIGNOTHING"),
        Program(stop_timeout=-2),
    ],
    ids=["NUL", "words", "long word", "long", "relative", "user", "signal", "timeout"],
)
def test_an_impossible_program_is_refused(program: Program) -> None:
    with pytest.raises(InvalidInput):
        require_valid(program)


async def as_nginx(world: World, config: ImageConfig = NGINX) -> None:
    images = world.parts.services.images
    image = images.resolve(Ref.default("tiny"))
    assert image is not None
    await images.update(image.ref, lambda found: replace(found, config=config))


async def test_the_program_of_a_request_is_recorded_and_run(world: World) -> None:
    await as_nginx(world)
    program = Program(arguments=("help",), cwd="/tmp", user="7", stop_signal="SIGINT", stop_timeout=3)
    made = await world.create("web1", program=program, start=True)
    assert made.start.entrypoint == ENTRYPOINT and made.start.arguments == ("help",) and made.start.stop_timeout == 3
    spec = world.on_host("web1").spec
    assert spec.command == (*ENTRYPOINT, "help") and (spec.cwd, spec.user, spec.stop_signal) == ("/tmp", "7", 2)
    assert spec.environment["A"] == "1"


async def test_without_one_the_image_s_is_run(world: World) -> None:
    await as_nginx(world)
    await world.create("web1", start=True)
    spec = world.on_host("web1").spec
    assert (spec.command, spec.cwd, spec.user, spec.stop_signal) == (COMMAND, "/srv", "web:www", 3)


async def test_one_program_of_a_distribution_is_not_its_system(world: World) -> None:
    await world.create("web1", program=Program(arguments=("/bin/sh",)), start=True)
    spec = world.on_host("web1").spec
    assert spec.command == ("/bin/sh",) and not spec.system and spec.stop_signal == 15


@pytest.mark.parametrize("program", [None, Program(entrypoint=("",))], ids=["image", "reset"])
async def test_nothing_to_run_is_refused_and_nothing_is_left(world: World, program: Program | None) -> None:
    await as_nginx(world, NGINX if program else replace(NGINX, command=(), entrypoint=()))
    with pytest.raises(InvalidInput, match="No command is specified"):
        await world.create("web1", program=program)
    assert not list(world.parts.services.instances) and not await world.parts.services.runtimes.get("fake").owned()


async def configure(world: World, instance: Instance, **more: object) -> None:
    def decide(found: Instance) -> InstanceUpdate:
        update = InstanceUpdate(found.config, found.devices, found.profiles)
        return replace(update, **more)  # type: ignore[arg-type]

    await world.finish(world.parts.services.instances.update(instance.ref, decide))


async def test_keys_take_its_place_at_the_next_start(world: World) -> None:
    await as_nginx(world)
    made = await world.create("web1")
    keys = {"oci.entrypoint": "nginx -g 'daemon off;'", "oci.cwd": "/etc", "oci.uid": "33"}
    await configure(world, made, config=keys)
    await world.finish(world.parts.services.instances.start(made.ref))
    spec = world.on_host("web1").spec
    assert (spec.command, spec.cwd, spec.user) == (("nginx", "-g", "daemon off;"), "/etc", "33:www")


@pytest.mark.parametrize("key", ["oci.entrypoint='x", "oci.cwd=etc", "oci.uid=-1", "oci.gid=70000"])
async def test_impossible_keys_are_refused(world: World, key: str) -> None:
    name, _, value = key.partition("=")
    with pytest.raises(InvalidInput, match=name):
        await world.create("web1", config={name: value})


async def test_notes_of_a_door_follow_copies_renames_snapshots_and_restores(world: World) -> None:
    services = world.parts.services
    made = await world.create("web1", notes={"docker": '{"a":1}'})
    await world.finish(services.instances.snapshots.create(made.ref, "snap0"))
    await configure(world, made, notes={"docker": "{}"})
    assert services.instances.get(made.ref).notes == {"docker": "{}"}
    await configure(world, made, config={"user.x": "1"})
    assert services.instances.get(made.ref).notes == {"docker": "{}"}
    await world.finish(services.instances.copy(Source(made.ref, "snap0"), InstanceRequest(name="web2")))
    assert services.instances.get(Ref.default("web2")).notes == {"docker": '{"a":1}'}
    await world.finish(services.instances.snapshots.restore(made.ref, "snap0"))
    await world.finish(services.instances.rename(made.ref, "web3"))
    assert services.instances.get(Ref.default("web3")).notes == {"docker": '{"a":1}'}


async def test_endless_notes_are_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="notes"):
        await world.create("web1", notes={"docker": "x" * (2 << 20)})
