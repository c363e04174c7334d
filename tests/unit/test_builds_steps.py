"""A failure, cancellation and crash at every step of a build, over the daemon in memory: nothing is left of it."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from memory_audit import differences
from strike import Fate, Strike

from isola.builds.exporting import Deliver, Export
from isola.errors import Forbidden, HostFailure, InvalidInput, IsolaError, NotFound, TooLarge, Unsupported
from isola.host.outside import limit_to_outside
from isola.images.build_limits import BuildLimits
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest, Output
from isola.model.caller import Caller, Credential
from isola.model.reference import Ref
from isola.testing.http import Reply
from isola.testing.parts import World

NAME = "docker.io/library/built:latest"
DOCKERFILE = (
    "FROM tiny AS one\nCOPY a /one\nFROM tiny\nARG V=1\nENV x=$V\nCOPY a b /c/\nCOPY --from=one /one /two\n"
    'CMD ["/sbin/init"]\n'
)


def context(dockerfile: str = DOCKERFILE, **files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {"Dockerfile": dockerfile, "a": "A", "b": "B", **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data[:100]
    yield data[100:]


async def build(
    world: World, data: bytes | None = None, deliver: Deliver | None = None, **options: object
) -> list[BuildEvent]:
    """All events of a build that has succeeded."""
    builds, told = world.parts.services.builds, list[BuildEvent]()
    archive = await builds.receive(blocks(context() if data is None else data))
    request = BuildRequest(names=(NAME,), **options)  # type: ignore[arg-type]
    try:
        operation = builds.start(request, archive, told.append, deliver=deliver)
    except IsolaError:
        await builds.discard(archive)
        raise
    await world.context.operations.finish(operation)
    return told


async def left(world: World) -> list[str]:
    """What may not be there when no build runs and nothing is kept for the next one."""
    await world.parts.services.builds.prune()
    places = await world.host.files.names(world.context.directory / "builds")
    found = [f"builds/{name}" for name in places if name != "cache"]
    found += [f"instance {each.name}" for each in world.context.records]
    return found + await differences(world)


def image_of(world: World) -> str | None:
    found = world.context.images.resolve(Ref("default", NAME))
    return found.fingerprint if found else None


async def test_an_image_is_built_and_built_again_from_the_cache(world: World) -> None:
    told = await build(world)
    steps = [(event.number, event.total) for event in told if event.kind is BuildEventKind.STEP]
    assert steps == [(number, 8) for number in range(1, 9)]
    first = image_of(world)
    again = await build(world)
    assert image_of(world) == first and [each.kind for each in again].count(BuildEventKind.CACHED) == 6
    config = await world.context.images.configuration(world.context.images.get(Ref("default", str(first))))
    assert config.run.environment["x"] == "1" and len(config.diff_ids) == 3
    changed = await build(world, arguments={"V": "2"})
    assert image_of(world) != first and [each.kind for each in changed].count(BuildEventKind.CACHED) == 3
    assert await left(world) == []


async def test_the_cache_can_be_limited_to_the_layers_of_images(world: World) -> None:
    data = context("FROM tiny\nCOPY a /one\nENV x=1\nCOPY b /two\n")
    await build(world, data)
    for images, cached in ((("none",), 0), (("built",), 3), (("none", "built"), 3), (None, 3)):
        told = await build(world, data, cache_from=images)
        assert [each.kind for each in told].count(BuildEventKind.CACHED) == cached, images
    assert await left(world) == []


@pytest.mark.parametrize("action", ["fail", "cancel", "crash"])
async def test_every_step_of_a_build(world: World, action: str) -> None:
    await build(world)
    assert await left(world) == []
    strike = Strike("Building image")
    fate(world).strike = strike
    await build(world)
    assert await left(world) == []
    points = list(strike.points)
    fate(world).strike = None
    assert len(points) >= 4, points
    for number, point in enumerate(points):
        fate(world).strike = Strike("Building image", number, action)
        running = asyncio.ensure_future(build(world, arguments={"V": f"{action}{number}"}))
        struck = asyncio.ensure_future(fate(world).struck())
        await asyncio.wait([struck, running], return_when=asyncio.FIRST_COMPLETED)
        if not struck.done():  # a layer of the last build was still there: it had fewer points
            struck.cancel()
            fate(world).strike = None
            continue
        if action == "crash":
            fate(world).dead = True
            world.observer = Fate()
            await world.start()
            running.cancel()
        else:
            await asyncio.wait([running])
            assert running.cancelled() or isinstance(running.exception(), IsolaError | None)
            fate(world).strike = None
        assert await left(world) == [], f"{action} at {point}"
    await build(world)
    assert image_of(world) is not None and await left(world) == []


def fate(world: World) -> Fate:
    assert isinstance(world.observer, Fate)
    return world.observer


@pytest.mark.parametrize(
    ("dockerfile", "options", "error", "message"),
    [
        ("FROM tiny\nFOO\n", {}, InvalidInput, "line 2: unknown instruction: FOO"),
        ("FROM tiny\nCOPY missing /\n", {}, InvalidInput, "file not found in build context"),
        ("FROM tiny\n", {"target": "x"}, NotFound, 'target stage "x" could not be found'),
        ("FROM tiny\n", {"dockerfile": "Other"}, InvalidInput, "Cannot locate specified Dockerfile: Other"),
        ("FROM tiny\n", {"dockerfile": "../../etc/passwd"}, InvalidInput, "Cannot locate specified Dockerfile"),
        ("FROM tiny\nENV x=${y:?no}\n", {}, InvalidInput, "line 2: y: no"),
        ("FROM tiny\n", {"platform": "plan9/x"}, IsolaError, "plan9"),
    ],
)
async def test_what_cannot_be_built_leaves_nothing(
    world: World, dockerfile: str, options: dict[str, object], error: type[IsolaError], message: str
) -> None:
    with pytest.raises(error) as caught:
        await build(world, context(dockerfile), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert await left(world) == [] and image_of(world) is None


async def test_a_context_has_a_bound(world: World) -> None:
    await configured(world, "builds.limits.context", "1000")
    with pytest.raises(TooLarge):
        await world.parts.services.builds.receive(blocks(bytes(2000)))
    assert await world.host.files.names(Path(world.context.directory) / "builds") == ()


@pytest.mark.parametrize("data", [b"no archive" * 60, context(**{"../out": "x"})])
async def test_a_context_that_cannot_be_unpacked_leaves_nothing(world: World, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        await world.parts.services.builds.receive(blocks(data))
    assert await world.host.files.names(Path(world.context.directory) / "builds") == ()


async def test_a_client_that_goes_while_it_sends_leaves_nothing(world: World) -> None:
    gone = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield context()[:100]
        gone.set()
        await asyncio.Event().wait()

    receiving = asyncio.ensure_future(world.parts.services.builds.receive(silent()))
    await gone.wait()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert await world.host.files.names(Path(world.context.directory) / "builds") == ()


async def configured(world: World, key: str, value: str) -> None:
    await world.parts.services.server.update(lambda config: {**config, key: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("builds.limits.instructions", "7", "has more than 7 instructions"),
        ("builds.limits.layers", "2", "has more than 2 layers"),
        ("builds.limits.entries", "2", "too many"),
        ("builds.limits.memory", "8MiB", "builds of this server may have 8388608"),
    ],
)
async def test_limits_of_the_server(world: World, key: str, value: str, message: str) -> None:
    await configured(world, key, value)
    asked = {"limits.memory": "16MiB"} if key == "builds.limits.memory" else {}
    with pytest.raises((TooLarge, InvalidInput), match=message):
        await build(world, config=asked)
    assert image_of(world) is None
    await configured(world, key, "")
    await build(world, config=asked)
    assert await left(world) == []


def test_lower_limits_of_a_profile_stay() -> None:
    limits = BuildLimits.of({"builds.limits.memory": "1GiB", "builds.limits.processes": "100"})
    assert limits.applied({}, {}) == {"limits.memory": str(1 << 30), "limits.processes": "100"}
    effective = {"limits.memory": "512MiB", "limits.processes": "50"}
    assert limits.applied({"limits.memory": "512MiB"}, effective) == {"limits.memory": "512MiB"}
    assert limits.applied({}, {"limits.memory": "50%", "limits.processes": "200"})["limits.processes"] == "100"
    assert BuildLimits.of({}).applied({}, {}) == {}


async def test_users_of_the_host_cannot_reach_what_programs_write(world: World) -> None:
    """Files of caches belong to the host's root, with the permissions that programs of a build give them."""
    await build(world)
    assert world.host.files._find(world.context.directory / "builds").mode == 0o700


async def test_what_a_stage_has_together_is_bounded(world: World) -> None:
    many = "".join(f"ENV a{number}=$a0\n" for number in range(1, 500))
    with pytest.raises(InvalidInput, match=r"line \d+: variables, labels and history have more than"):
        await build(world, context(f"FROM tiny\nENV a0={'x' * 60_000}\n{many}"))
    assert await left(world) == []


@pytest.mark.parametrize("limited", [True, False])
async def test_files_of_the_host_s_own_servers_are_not_for_restricted_callers(world: World, limited: bool) -> None:
    world.host.http.servers["http://169.254.169.254"] = lambda request: Reply(200, b"the host's secrets")
    caller = Caller(Credential.CERTIFICATE, projects=frozenset({"default"})) if limited else Caller(Credential.UNIX)
    limit_to_outside(not caller.admin)
    try:
        wanted = context("FROM tiny\nADD http://169.254.169.254/latest/credentials /c\n")
        if limited:
            with pytest.raises(Forbidden, match="is reached by this host alone"):
                await build(world, wanted)
        else:
            await build(world, wanted)
    finally:
        limit_to_outside(False)
    assert await left(world) == []


@pytest.mark.parametrize(
    ("kind", "ending", "start"), [("gzip", "+gzip", b"\x1f\x8b"), ("none", "", b"c/"), ("zstd", "+zstd", b"\x28\xb5")]
)
async def test_layers_are_compressed_as_the_server_is_told(world: World, kind: str, ending: str, start: bytes) -> None:
    await world.parts.services.server.update(lambda config: {**config, "images.compression": kind})
    await build(world)
    images = world.context.images
    made = images.get(Ref("default", str(image_of(world))))
    for layer in made.layers[-2:]:
        assert layer.media_type == f"application/vnd.oci.image.layer.v1.tar{ending}"
    assert (await world.host.files.read(images.store.path(made.layers[-2].digest))).startswith(start)
    other = "gzip" if kind == "none" else "none"
    await world.parts.services.server.update(lambda config: {**config, "images.compression": other})
    again = await build(world)
    assert [each.kind for each in again].count(
        BuildEventKind.CACHED
    ) == 6  # what is kept is used, whatever its compression
    assert await left(world) == []


async def test_files_and_archives_are_for_the_client_alone(world: World) -> None:
    received: list[bytes] = []

    async def deliver(export: Export) -> None:
        received.append(b"".join([block async for block in export.blocks()]))

    await build(world, context("FROM scratch\nCOPY a /one/\n"), deliver, output=Output.FILES)
    with tarfile.open(fileobj=io.BytesIO(received.pop())) as archive:
        assert [each.name.strip("./") for each in archive if each.isreg()] == ["one/a"]
    await build(world, context("FROM scratch\n"), deliver, output=Output.FILES)
    with tarfile.open(fileobj=io.BytesIO(received.pop())) as archive:
        assert archive.getnames() == []
    await build(world, deliver=deliver, output=Output.ARCHIVE)
    with tarfile.open(fileobj=io.BytesIO(received.pop())) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None and b'"built:latest"' in file.read()
    assert image_of(world) is None and await left(world) == []


@pytest.mark.parametrize("output", [Output.FILES, Output.ARCHIVE])
async def test_a_client_that_does_not_take_the_result(world: World, output: Output) -> None:
    async def deliver(export: Export) -> None:
        raise HostFailure("The disk of the client is full")

    with pytest.raises(HostFailure, match="disk of the client"):
        await build(world, deliver=deliver, output=output)
    with pytest.raises(Unsupported, match="cannot take"):
        await build(world, output=output)
    assert image_of(world) is None and await left(world) == []
