"""Further contexts of builds: what they are, what they take the place of, and that archives of a client stay inside."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from isola.builds.dockerfile.parsing import parse
from isola.builds.named_contexts import (
    NamedContext,
    directories_of,
    find,
    has_repositories,
    images_of,
    named_contexts,
)
from isola.builds.platforms import Platform
from isola.builds.stages import Plan, Source, plan
from isola.cli.arguments import UsageError
from isola.cli.named_contexts import NamedContexts, read_pairs
from isola.errors import InvalidInput, IsolaError
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest
from isola.model.reference import Ref
from isola.testing.parts import World

NAME = "docker.io/library/built:latest"
GIVEN = {"lib": "local:context-1", "alpine:3": "docker-image://app", "src": "https://git.example/x.git#main"}


def planned(text: str, given: Mapping[str, str]) -> Plan:
    platform = Platform("amd64")
    return plan(parse(text.encode()), given={}, host=platform, platform=platform, contexts=named_contexts(given))


def test_what_contexts_are() -> None:
    found = named_contexts(GIVEN)
    assert found["lib"] == NamedContext("lib", directory="context-1")
    assert found["alpine:3"] == NamedContext("alpine:3", image="app")
    assert found["src"].remote == GIVEN["src"]
    assert directories_of(GIVEN) == ("context-1",) and list(images_of(GIVEN)) == ["app"]
    assert has_repositories(GIVEN) and not has_repositories({"lib": "local:context-1"})
    assert find(found, "docker.io/library/alpine:3") == found["alpine:3"] == find(found, "alpine:3")
    assert find(found, "lib:latest") == found["lib"] and find(found, "alpine") is None and find(found, "A B") is None


@pytest.mark.parametrize(
    "given",
    [
        {"UPPER": "local:context-1"},
        {"": "local:context-1"},
        {"a": "local:../context"},
        {"a": "local:context"},
        {"a": "docker-image://"},
        {"a": "oci-layout:x"},
        {"a": "input:x"},
        {"a": "/etc"},
        {"a": "ssh://git@host/x"},
        {"a": "https://user:pw@host/x"},
        {"a": "docker-image://x", "a:latest": "docker-image://y"},
        {"a::linux/amd64": "docker-image://x"},
        {f"a{number}": "docker-image://x" for number in range(101)},
    ],
)
def test_what_is_no_context_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(IsolaError):
        named_contexts(given)


def test_a_context_has_the_place_of_images_and_stages() -> None:
    text = "FROM alpine:3 AS one\nRUN a\nFROM alpine:4 AS lib\nRUN b\nFROM lib\nCOPY --from=one a b\nFROM scratch\n"
    text += "COPY --from=lib /a /b\nCOPY --from=1 /a /b\nRUN --mount=from=src,target=/x true\nCOPY --from=other / /\n"
    made = planned(text, {**GIVEN, "scratch": "docker-image://x"})
    assert [each.base for each in made.stages] == [
        Source(image="app"), Source(context="lib"), Source(stage=1), Source(image="scratch"),
    ]  # fmt: skip
    assert len(made.stages[0].stage.instructions) == 1 and made.stages[1].stage.instructions == ()
    assert made.source("lib", 3) == Source(stage=1) and made.source("src", 3) == Source(context="src")
    assert made.source("alpine:3", 3) == Source(image="app") and made.source("other", 3) == Source(image="other")
    assert made.dependencies(3) == {1}


def archive(*names: str, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(info)
    return buffer.getvalue()


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_files_are_copied_from_contexts(world: World) -> None:
    text = "FROM lib AS files\nFROM tiny\nCOPY --from=lib a /\nCOPY --from=files /a /b\n"
    builds, told = world.parts.services.builds, list[BuildEvent]()
    data = archive("context/x", "context-1/a", "context-1/b")

    async def build(data: bytes) -> tuple[int, tuple[str, ...]]:
        told.clear()
        place = await builds.receive(blocks(data), ("context-1",))
        await world.host.files.write(place / "context" / "Dockerfile", text.encode())
        request = BuildRequest(names=(NAME,), contexts={"lib": "local:context-1"})
        await world.context.operations.finish(builds.start(request, place, told.append))
        image = world.context.images.resolve(Ref("default", NAME))
        assert image is not None
        return [each.kind for each in told].count(BuildEventKind.CACHED), tuple(x.diff_id for x in image.layers)

    cached, first = await build(data)
    assert cached == 0 and len(first) == 3
    assert await build(data) == (3, first)
    cached, other = await build(archive("context/x", "context-1/a", "context-1/c"))
    assert cached == 1, "of the stage that copies one file, and not the others"
    assert other[1] == first[1]


@pytest.mark.parametrize(
    "data",
    [
        archive("context/x"),
        archive("context/x", "context-1"),
        archive("context/x", link="context-1"),
        archive("context-1/x", link="context"),
    ],
)
async def test_an_archive_without_its_directories_leaves_nothing(world: World, data: bytes) -> None:
    with pytest.raises(InvalidInput, match="has no directory"):
        await world.parts.services.builds.receive(blocks(data), ("context-1",))
    assert await world.host.files.names(Path(world.context.directory) / "builds") == ()


async def test_wrong_contexts_are_refused_before_a_build(world: World) -> None:
    builds = world.parts.services.builds
    place = await builds.receive(blocks(archive("Dockerfile")))
    with pytest.raises(InvalidInput, match="is not understood"):
        builds.start(BuildRequest(contexts={"lib": "/etc"}), place, lambda event: None)
    await builds.discard(place)
    assert await world.host.files.names(Path(world.context.directory) / "builds") == ()


def test_the_command_sends_directories(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name, content in ((".dockerignore", "no\n"), ("no", ""), ("yes", "y")):
        (tmp_path / "lib" / name).write_text(content)
    given = read_pairs([f"lib={tmp_path}/lib", "base=docker-image://app", "repo=https://git.example/x.git"])
    found = NamedContexts(given)
    assert found.options == {
        "lib": "local:context-1", "base": "docker-image://app", "repo": "https://git.example/x.git",
    }  # fmt: skip
    assert found.has_directories
    with tarfile.open(fileobj=io.BytesIO(b"".join(found.stream(None)))) as tar:
        assert tar.getnames() == ["context-1", "context-1/.dockerignore", "context-1/yes"]
    assert list(NamedContexts({}).stream(None)) == []
    for text in ("lib", "=x", "lib=", f"lib={tmp_path}/none"):
        with pytest.raises(UsageError):
            read_pairs([text])
