"""Archives of images: of OCI's layout and as ``docker save`` writes them; hostile ones are refused."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
import pytest
from image_library import DIRECTORY, World
from tars import directory, hard_link, member, packed, symlink, tar

from isola.errors import InvalidInput, IsolaError, TooLarge, UnsafeArchive, Unsupported
from isola.images import ImageLibrary
from isola.images.root_import import RootImport
from isola.model.image import Image
from isola.model.reference import Ref
from isola.operations import Operation

OCI = "application/vnd.oci.image"
TREE = tar(directory("etc"), member("etc/x", b"y"))
TOP = tar(member("etc/.wh.x"), member("top", b"z" * 3000))


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(*trees: bytes, architecture: str = "amd64", **more: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(tree) for tree in trees]}
    run = {"Cmd": ["/bin/x"], "Env": ["B=1", "A=2"]}
    return orjson.dumps({"architecture": architecture, "os": "linux", "config": run, "rootfs": rootfs, **more})


class Layout:
    """An archive of OCI's layout that is being made."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: list[dict[str, object]] = []
        self.version: dict[str, object] = {"schemaVersion": 2}

    def put(self, data: bytes, kind: str, **more: object) -> dict[str, object]:
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}

    def image(self, *trees: bytes, kind: str = "gzip", architecture: str = "amd64", **more: Any) -> dict[str, object]:
        layers = [self.put(packed(tree, kind), f"{OCI}.layer.v1.tar+{kind}") for tree in trees]
        document = {
            **self.version,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.put(config(*trees, architecture=architecture), f"{OCI}.config.v1+json"),
            "layers": layers,
        }
        return self.put(orjson.dumps(document), f"{OCI}.manifest.v1+json", **more)

    def index(self, *manifests: dict[str, object], **more: object) -> dict[str, object]:
        document = {**self.version, "mediaType": f"{OCI}.index.v1+json", "manifests": list(manifests)}
        return self.put(orjson.dumps(document), f"{OCI}.index.v1+json", **more)

    def archive(self, *manifests: dict[str, object], without: str = "") -> bytes:
        index = {**self.version, "mediaType": f"{OCI}.index.v1+json", "manifests": list(manifests)}
        blobs = [
            member(f"blobs/{name.replace(':', '/')}", data) for name, data in self.blobs.items() if name != without
        ]
        return tar(
            directory("blobs"),
            *blobs,
            member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            member("index.json", orjson.dumps(index)),
        )


def named(name: str) -> dict[str, Any]:
    return {"annotations": {"io.containerd.image.name": f"docker.io/library/{name}"}}


def saved(*trees: bytes, names: list[str] | None = None, kind: str = "none", **more: object) -> bytes:
    """As Docker before 25 writes it: layers with a directory each, equal ones as links."""
    data = config(*trees)
    layers = [member(f"{number}" * 64 + "/layer.tar", packed(tree, kind)) for number, tree in enumerate(trees)]
    layers.append(symlink("9" * 64 + "/layer.tar", f"../{'0' * 64}/layer.tar"))
    paths = [f"{number}" * 64 + "/layer.tar" for number in range(len(trees))]
    item = {"Config": f"{digest(data)[7:]}.json", "RepoTags": names, "Layers": paths, **more}
    return tar(*layers, member(f"{digest(data)[7:]}.json", data), member("manifest.json", orjson.dumps([item])))


async def load(world: World, library: ImageLibrary, data: bytes, *aliases: str) -> Operation:
    file = await world.upload("archive", data)
    return await world.operations.finish(library.archives.load(file, aliases=aliases))


async def only(world: World, library: ImageLibrary) -> Image:
    (image,) = library
    await world.host.files.make_directory(DIRECTORY / "out")
    for number, layer in enumerate(image.layers):
        await world.host.files.make_directory(DIRECTORY / f"out/{number}")
        await library.unpack_layer(layer, DIRECTORY / f"out/{number}")
    assert await world.leftovers() == ()
    return image


@pytest.mark.parametrize("outside", ["none", "gzip", "zstd", "xz"])
@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_an_oci_archive(outside: str, kind: str) -> None:
    world = World()
    library = await world.start()
    layout = Layout()
    at = layout.image(TREE, TOP, kind=kind, **named("app:1"))
    done = await load(world, library, packed(layout.archive(at), outside), "mine")
    image = await only(world, library)
    assert image.manifest == at["digest"]
    assert {alias.name for alias in library.aliases()} == {"docker.io/library/app:1", "mine"}
    assert done.metadata["images"] == [{"fingerprint": image.fingerprint, "names": ["docker.io/library/app:1", "mine"]}]


@pytest.mark.parametrize("version", [{}, {"schemaVersion": 0}])
async def test_an_archive_whose_documents_have_no_version_of_their_schema(version: dict[str, object]) -> None:
    """It is used as another: its blobs are kept, and it can be saved."""
    world, other = World(), World()
    library, there = await world.start(), await other.start()
    layout = Layout()
    layout.version = version
    inner = layout.index(layout.image(TREE, platform={"os": "linux", "architecture": "amd64"}), **named("app:1"))
    await load(world, library, layout.archive(inner))
    assert await library.collect_garbage() == 0
    image = await only(world, library)
    assert (await library.configuration(image)).run.command == ("/bin/x",)
    data = b"".join([piece async for piece in library.archives.save([(image, ["docker.io/library/app:1"])])])
    await load(other, there, data)
    assert (await only(other, there)).manifest == image.manifest


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
async def test_an_archive_of_docker(kind: str) -> None:
    world = World()
    library = await world.start()
    await load(world, library, saved(TREE, TOP, names=["app:1", "example.org/team/app"], kind=kind))
    image = await only(world, library)
    assert {alias.name for alias in library.aliases()} == {"docker.io/library/app:1", "example.org/team/app:latest"}
    assert [layer.diff_id for layer in image.layers] == [digest(TREE), digest(TOP)]
    assert list((await library.configuration(image)).run.environment) == ["B", "A"]


async def test_equal_layers_are_stored_once_whatever_their_compression() -> None:
    world = World()
    library = await world.start()
    layout = Layout()
    await load(world, library, layout.archive(layout.image(TREE, TOP, **named("app:1"))))
    before = await world.blobs()
    await load(world, library, saved(TREE, TOP, TREE, names=["other:1"]))
    assert len(await world.blobs() - before) <= 2, "a configuration and a manifest"
    assert len(list(library)) == 2


async def test_an_image_that_is_loaded_again_is_the_same() -> None:
    world = World()
    library = await world.start()
    data = saved(TREE, names=["app:1"])
    for _ in range(2):
        await load(world, library, data)
    assert len(list(library)) == 1


async def test_several_images_and_names() -> None:
    world = World()
    library = await world.start()
    layout = Layout()
    one, two = layout.image(TREE), layout.image(TREE, TOP)
    await load(
        world, library, layout.archive({**one, **named("a:1")}, {**one, **named("a:2")}, {**two, **named("b:1")})
    )
    assert len(list(library)) == 2
    assert {alias.name.rpartition("/")[2] for alias in library.aliases()} == {"a:1", "a:2", "b:1"}
    with pytest.raises(InvalidInput, match="several images"):
        await load(world, library, layout.archive({**one, **named("a:1")}, {**two, **named("b:1")}), "mine")


async def test_the_platform_of_the_host_is_chosen() -> None:
    world = World()
    library = await world.start()
    layout = Layout()
    arm = layout.image(TOP, architecture="arm64", platform={"os": "linux", "architecture": "arm64"})
    amd = layout.image(TREE, platform={"os": "linux", "architecture": "amd64"})
    unknown = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    attestation = layout.put(b"{}", f"{OCI}.manifest.v1+json", **unknown)
    await load(
        world,
        library,
        layout.archive(layout.index(arm, amd, attestation, **named("app:1")), without=str(arm["digest"])),
    )
    image = await only(world, library)
    assert (image.manifest, image.architecture, bool(image.index)) == (amd["digest"], "x86_64", True)
    await load(world, library, layout.archive(arm, amd))
    assert len(list(library)) == 1


async def test_a_name_in_the_archive_moves_to_its_image() -> None:
    world = World()
    library = await world.start()
    await load(world, library, saved(TREE, names=["app:1"]))
    await load(world, library, saved(TREE, TOP, names=["app:1"]))
    assert len(list(library)) == 2
    found = library.resolve(Ref.default("docker.io/library/app:1"))
    assert found is not None and len(found.layers) == 2


# --- saving -----------------------------------------------------------------------------------------------------


async def test_saved_images_can_be_loaded_elsewhere() -> None:
    world, other = World(), World()
    library, there = await world.start(), await other.start()
    layout = Layout()
    await load(world, library, layout.archive(layout.image(TREE, TOP, **named("app:1"))))
    (image,) = library
    data = b"".join([piece async for piece in library.archives.save([(image, ["docker.io/library/app:1", "bare"])])])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
    assert names[:2] == ["blobs", "blobs/sha256"] and names[-4:] == [
        "index.json", "manifest.json", "oci-layout", "repositories",
    ]  # fmt: skip
    await load(other, there, data)
    assert (await only(other, there)).manifest == image.manifest
    assert "docker.io/library/app:1" in {alias.name for alias in there.aliases()}
    assert await library.collect_garbage() == 0


async def test_a_root_file_system_becomes_an_image() -> None:
    world = World()
    library = await world.start()
    for kind in ("none", "gzip", "xz"):
        file = await world.upload(f"root-{kind}", packed(TREE, kind))
        wanted = RootImport((f"root:{kind}",), ('CMD ["/x"]', "ENV A=1"), "mine")
        await world.operations.finish(library.archives.import_root(file, wanted))
        found = library.resolve(Ref.default(f"root:{kind}"))
        assert found is not None
        assert (found.config.command, found.config.system) == (("/x",), False)
        assert [layer.diff_id for layer in found.layers] == [digest(TREE)]
        assert (await library.configuration(found)).history[0].comment == "mine"
    assert await world.leftovers() == ()
    with pytest.raises(InvalidInput):
        library.archives.import_root(file, RootImport(changes=("RUN x",)))


# --- hostile archives -------------------------------------------------------------------------------------------


def oci(manifests: list[dict[str, object]], layout: Layout | None = None) -> bytes:
    return (layout or Layout()).archive(*manifests)


@cache
def hostile() -> Mapping[str, tuple[bytes, type[IsolaError]]]:
    nested = Layout()
    at = nested.image(TREE)
    for _ in range(6):
        at = nested.index(at)
    wrong = Layout()
    flipped = wrong.image(TREE)
    layer = next(name for name, data in wrong.blobs.items() if data[:2] == b"\x1f\x8b")
    wrong.blobs[layer] = wrong.blobs[layer][:-1] + b"!"
    gone = Layout()
    missing = gone.image(TREE)
    lie = {"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}
    out = tar(
        member("manifest.json", orjson.dumps([{"Config": "c.json", "RepoTags": None, "Layers": []}])),
        symlink("c.json", "../../../etc/shadow"),
    )
    loop = tar(
        member("manifest.json", orjson.dumps([{"Config": "a", "RepoTags": None, "Layers": []}])),
        symlink("a", "b"),
        hard_link("b", "a"),
    )
    artifact = Layout()
    kinds = artifact.put(b"{}", "text/html")
    unlike = tar(member("manifest.json", orjson.dumps([lie])), member("c.json", config(TREE)))
    return {
        "indexes within indexes": (oci([at], nested), Unsupported),
        "a flipped byte": (oci([flipped], wrong), InvalidInput),
        "a missing layer": (gone.archive(missing, without=layer), InvalidInput),
        "a wrong media type": (oci([kinds], artifact), Unsupported),
        "no image": (oci([]), InvalidInput),
        "a thousand images": (oci([{**kinds, "digest": digest(b"%d" % n)} for n in range(300)]), TooLarge),
        "layers unlike diff ids": (unlike, InvalidInput),
        "a link out of the archive": (out, InvalidInput),
        "links in a circle": (loop, InvalidInput),
        "a list of numbers": (tar(member("manifest.json", b"[1]")), InvalidInput),
        "no list": (tar(member("manifest.json", b"{}")), InvalidInput),
        "no JSON": (tar(member("manifest.json", b"\xff")), InvalidInput),
        "nothing that describes it": (tar(member("blobs/x", b"")), Unsupported),
        "a path that leads out": (tar(member("blobs/../../x", b"")), UnsafeArchive),
        "no archive": (b"x" * 2000, InvalidInput),
    }  # fmt: skip


def too_many_members() -> tuple[bytes, type[IsolaError]]:
    """Not made where tests are only collected."""
    return tar(*(member(f"blobs/{n}") for n in range(20_001))), UnsafeArchive


@pytest.mark.parametrize("case", [*hostile(), "too many members"])
async def test_hostile_archives_leave_nothing(case: str) -> None:
    data, error = hostile().get(case) or too_many_members()
    world = World()
    library = await world.start()
    await load(world, library, saved(TOP, names=["kept:1"]))
    before = await world.blobs()
    with pytest.raises(error):
        await load(world, library, data)
    assert await world.blobs() == before
    assert await world.leftovers() == ()
    assert len(list(library)) == 1


async def test_a_layer_other_than_its_diff_id_says_is_refused() -> None:
    world = World()
    library = await world.start()
    layers = [member("0" * 64 + "/layer.tar", TOP), member("c.json", config(TREE))]
    item = {"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["0" * 64 + "/layer.tar"]}
    with pytest.raises(InvalidInput, match="does not match its digest"):
        await load(world, library, tar(*layers, member("manifest.json", orjson.dumps([item]))))
    assert list(library) == []
