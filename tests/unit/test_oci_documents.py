"""Parsing of manifests, indexes and configurations of OCI and Docker; hostile ones are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from image_library import World, unified

from isola.errors import InvalidInput, NotFound, TooLarge, Unsupported
from isola.images import ImageLibrary
from isola.images.closure import closure
from isola.images.descriptor import Descriptor
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.oci_config import read_config, write_config
from isola.images.oci_image import oci_image
from isola.images.oci_manifest import Index, Manifest, check_image, read_document
from isola.images.platforms import choose
from isola.images.store import Intake
from isola.model.caller import DAEMON
from isola.model.image import TYPE_LABEL, HealthCheck, Image
from isola.model.reference import Ref
from isola.state.codec import encode

OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def digest(data: bytes | str) -> str:
    return f"sha256:{hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()}"


def described(name: str, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(name), "size": len(name), **more}


def manifest(count: int = 1, **more: object) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": described("config", f"{OCI}.config.v1+json"),
        "layers": [described(f"layer{number}", f"{OCI}.layer.v1.tar+gzip") for number in range(count)],
        **more,
    }


def index(*manifests: dict[str, object], **more: object) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": list(manifests), **more}


def platform(architecture: str, variant: str = "", os: str = "linux", **more: object) -> dict[str, object]:
    name = f"{os}-{architecture}-{variant}"
    wanted = {"os": os, "architecture": architecture, **({"variant": variant} if variant else {})}
    return described(name, f"{OCI}.manifest.v1+json", platform=wanted, **more)


def config(run: dict[str, object] | None = None, **more: object) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2015-10-31T22:22:56.015925234Z",
        "config": run or {},
        "rootfs": {"type": "layers", "diff_ids": [digest("diff0")]},
    }
    return orjson.dumps({**document, **more})


def read(document: object, media_type: str = "") -> Manifest | Index:
    return read_document(orjson.dumps(document), media_type)


# --- manifests and indexes --------------------------------------------------------------------------------------


def test_a_docker_manifest_is_read_like_one_of_oci() -> None:
    kind = f"{DOCKER}.distribution.manifest.v2+json"
    found = read(
        manifest()
        | {
            "mediaType": kind,
            "config": described("config", f"{DOCKER}.container.image.v1+json"),
            "layers": [described("layer0", f"{DOCKER}.image.rootfs.diff.tar.gzip")],
        },
        kind,
    )
    assert isinstance(found, Manifest)
    check_image(found)
    image = oci_image(Descriptor(kind, digest("m"), 7), found, read_config(config()), now=NOW)
    assert [layer.media_type for layer in image.layers] == [f"{OCI}.layer.v1.tar+gzip"]
    assert [layer.diff_id for layer in image.layers] == [digest("diff0")]
    assert (image.manifest, image.fingerprint) == (digest("m"), digest("m")[7:])


def test_a_document_without_a_media_type_is_identified_by_its_fields() -> None:
    assert isinstance(read({key: value for key, value in manifest().items() if key != "mediaType"}), Manifest)
    assert isinstance(read({key: value for key, value in index().items() if key != "mediaType"}), Index)


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {},
        {"schemaVersion": 1},
        manifest(schemaVersion=1),
        manifest(schemaVersion="2"),
        manifest(manifests=[]),
        manifest(config=None),
        manifest(config=[]),
        manifest(layers={}),
        manifest(layers=[None]),
        manifest(layers=[described("x", "y") | {"digest": "sha256:../../etc/passwd"}]),
        manifest(layers=[described("x", "y") | {"digest": "sha512:" + "0" * 64}]),
        manifest(layers=[described("x", "y") | {"size": -1}]),
        manifest(layers=[described("x", "y") | {"size": 1e300}]),
        manifest(layers=[described("x", "y") | {"size": True}]),
        manifest(501),
        manifest(annotations={"a": 1}),
        manifest(annotations={"a": "nul\0"}),
        manifest(mediaType="text/html"),
        {"schemaVersion": 2, "manifests": [{"digest": digest("x")}] * 1001},
    ],
)
def test_invalid_manifests_are_refused(document: object) -> None:
    with pytest.raises((InvalidInput, Unsupported)):
        read(document)


@pytest.mark.parametrize("document", [manifest(), index()])
def test_only_what_registries_exchange_has_to_say_its_version(document: dict[str, object]) -> None:
    read_document(orjson.dumps(document), versioned=True)
    del document["schemaVersion"]
    for each in (document, document | {"schemaVersion": 0}):
        assert read(each)
        with pytest.raises(Unsupported, match="schema version 2"):
            read_document(orjson.dumps(each), versioned=True)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"{" * 5])
def test_invalid_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_document(data)
    with pytest.raises(TooLarge):
        read_document(b" " * (MAX_DOCUMENT + 1))


def test_a_document_announced_as_another_is_refused() -> None:
    with pytest.raises(InvalidInput, match="announced"):
        read(manifest(), f"{OCI}.index.v1+json")


@pytest.mark.parametrize(
    "kind",
    [f"{OCI}.layer.nondistributable.v1.tar+gzip", f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip"],
)
def test_foreign_layers_are_layers(kind: str) -> None:
    found = read(manifest(layers=[described("x", kind)]))
    assert isinstance(found, Manifest)
    check_image(found)


@pytest.mark.parametrize("layer", ["+encrypted", f"{OCI}.layer.v1.tar+encrypted", ""])
def test_layers_that_cannot_be_unpacked_are_refused(layer: str) -> None:
    found = read(manifest(layers=[described("x", layer)]))
    assert isinstance(found, Manifest)
    with pytest.raises(Unsupported, match="cannot be unpacked"):
        check_image(found)


def test_an_artifact_is_not_an_image() -> None:
    found = read(manifest(config=described("x", f"{OCI}.empty.v1+json")))
    assert isinstance(found, Manifest)
    with pytest.raises(Unsupported, match="not an image"):
        check_image(found)


# --- platforms --------------------------------------------------------------------------------------------------


ATTESTED = platform("unknown", os="unknown", annotations={"vnd.docker.reference.type": "attestation-manifest"})


@pytest.mark.parametrize(
    ("here", "offered", "chosen"),
    [
        ("x86_64", [("arm64", "v8"), ("amd64", ""), ("386", "")], ("amd64", "")),
        ("x86_64", [("386", ""), ("arm", "v7")], ("386", "")),
        ("x86_64", [("386", ""), ("x86_64", "")], ("x86_64", "")),
        ("aarch64", [("arm", "v7"), ("arm64", "v8")], ("arm64", "v8")),
        ("armv7l", [("arm", "v5"), ("arm", "v7"), ("arm", "v6")], ("arm", "v7")),
        ("x86_64", [("amd64", "v3"), ("amd64", "v1")], ("amd64", "v1")),
    ],
)
def test_the_best_platform_is_chosen(here: str, offered: list[tuple[str, str]], chosen: tuple[str, str]) -> None:
    found = read(index(ATTESTED, platform("amd64", os="windows"), *(platform(*each) for each in offered)))
    assert isinstance(found, Index)
    picked = choose(found, here).platform
    assert (picked["architecture"], picked.get("variant", "")) == chosen


def test_without_a_matching_platform_the_error_lists_those_available() -> None:
    found = read(index(ATTESTED, platform("arm64", "v8"), platform("amd64", "v3")))
    assert isinstance(found, Index)
    with pytest.raises(Unsupported) as refused:
        choose(found, "x86_64")
    assert refused.value.evidence == "it is available for linux/amd64/v3, linux/arm64/v8"


def test_a_single_manifest_without_a_platform_is_chosen() -> None:
    found = read(index(ATTESTED, described("only", f"{OCI}.manifest.v1+json")))
    assert isinstance(found, Index)
    assert choose(found, "s390x").digest == digest("only")


# --- configurations ---------------------------------------------------------------------------------------------


def test_all_fields_of_a_configuration_are_read() -> None:
    found = read_config(
        config(
            {
                "User": "alice:staff",
                "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}},
                "Env": ["PATH=/bin", "A=1", "A=2=3", "IGNORED"],
                "Entrypoint": ["/bin/app"],
                "Cmd": ["--foreground"],
                "Volumes": {"/var/data": {}},
                "WorkingDir": "/home/alice",
                "Labels": {"a": "b"},
                "StopSignal": "SIGRTMIN+3",
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 30_000_000_000, "Retries": 3},
            }
        )
    )
    run = found.run
    assert (found.architecture, found.created_at.year, found.diff_ids) == ("x86_64", 2015, (digest("diff0"),))
    assert (run.entrypoint, run.command) == (("/bin/app",), ("/bin/app", "--foreground"))
    assert run.environment == {"PATH": "/bin", "A": "2=3"}
    assert (run.user, run.cwd, run.stop_signal, run.labels) == ("alice:staff", "/home/alice", "SIGRTMIN+3", {"a": "b"})
    assert (run.volumes, run.exposed_ports) == (("/var/data",), ("53/udp", "80/tcp", "8080/tcp"))
    assert run.health_check == HealthCheck(("/bin/sh", "-c", "true"), True, interval=30_000_000_000, retries=3)
    assert not run.system


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"Env": ["Z=1", "A=2"], "Entrypoint": ["/app"], "Cmd": ["-v"], "Shell": ["/bin/bash", "-ec"]},
        {"OnBuild": ["RUN true"], "ArgsEscaped": True, "User": "alice", "Labels": {"a": "b"}},
        {"Healthcheck": {"Test": ["CMD-SHELL", "true"]}, "Shell": ["/bin/bash", "-ec"], "WorkingDir": "/x"},
        {"Healthcheck": {"Test": ["CMD", "true"], "Timeout": 5_000_000_000}, "StopSignal": "SIGINT"},
        {"Healthcheck": {"Test": ["NONE"]}, "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}},
        {"Healthcheck": {"Retries": 3}, "Labels": {TYPE_LABEL: "system"}},
    ],
)
def test_a_configuration_is_written_as_it_was_read(run: dict[str, Any]) -> None:
    history: list[Mapping[str, object]] = [
        {"created_by": "RUN x", "comment": "c", "author": "a"},
        {"created_by": "CMD", "empty_layer": True},
    ]
    found = read_config(config(dict(run), author="me", history=history))
    written = write_config(found)
    assert read_config(written) == found
    assert orjson.loads(written)["history"] == history
    assert [f"{name}={value}" for name, value in found.run.environment.items()] == run.get("Env", [])
    kept = orjson.loads(written)["config"]
    assert {key: kept[key] for key in run} == run


@pytest.mark.parametrize("more", [{"history": [1]}, {"history": [{"empty_layer": "yes"}]}, {"author": 7}])
def test_a_hostile_history_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_config(config(**more))


def test_missing_fields_have_defaults() -> None:
    run = read_config(config({"Cmd": None, "Env": None, "Volumes": None, "Entrypoint": [""]}, created=None)).run
    assert (run.command, run.user, run.cwd, run.stop_signal, run.health_check) == ((), "0", "/", "SIGTERM", None)
    assert read_config(config({"Healthcheck": {"Test": ["NONE"]}})).run.health_check == HealthCheck(disabled=True)


@pytest.mark.parametrize(
    "run",
    [
        {"Cmd": "text"},
        {"Cmd": [1]},
        {"Cmd": ["nul\0"]},
        {"Cmd": ["x"] * 1001},
        {"Env": ["=x"]},
        {"User": "a b"},
        {"User": "a\nroot"},
        {"User": "a:b:c"},
        {"WorkingDir": "relative"},
        {"WorkingDir": "/../../etc"},
        {"Volumes": {"data": {}}},
        {"Volumes": ["/data"]},
        {"ExposedPorts": {"0/tcp": {}}},
        {"ExposedPorts": {"70000": {}}},
        {"ExposedPorts": {"90-80/tcp": {}}},
        {"ExposedPorts": {"80/icmp": {}}},
        {"StopSignal": "SIGNOTHING"},
        {"StopSignal": "99"},
        {"Labels": {"a": {}}},
        {"Healthcheck": {"Test": ["CMD"]}},
        {"Healthcheck": {"Test": ["EVAL", "x"]}},
        {"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}},
        {"Healthcheck": {"Test": ["CMD", "x"], "Retries": 10**15}},
    ],
)
def test_a_hostile_configuration_is_refused_by_field(run: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_config(config(run))
    assert next(iter(run)) in str(refused.value.field)


@pytest.mark.parametrize(
    "more",
    [
        {"os": "windows"},
        {"architecture": "z80"},
        {"rootfs": None},
        {"rootfs": {"type": "layers", "diff_ids": ["x"]}},
        {"rootfs": {"type": "layers", "diff_ids": [digest("x")] * 501}},
    ],
)
def test_a_configuration_of_another_system_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises((InvalidInput, Unsupported)):
        read_config(config(**more))


def test_the_first_images_name_no_system_and_the_machine_as_the_kernel_does() -> None:
    assert read_config(config(os=None)) == read_config(config(os="")) == read_config(config())
    assert read_config(config(architecture="x86_64")) == read_config(config())


def test_manifest_and_configuration_must_agree() -> None:
    found = read(manifest(2))
    assert isinstance(found, Manifest)
    with pytest.raises(InvalidInput, match="disagree"):
        oci_image(Descriptor("", digest("m"), 1), found, read_config(config()), now=NOW)


# --- blobs of an image ----------------------------------------------------------------------------------------------


class Blobs(dict[str, bytes]):
    """A store of documents."""

    def put(self, document: object) -> str:
        data = orjson.dumps(document)
        self[digest(data)] = data
        return digest(data)

    async def read(self, name: str) -> bytes:
        if name not in self:
            raise NotFound(name)
        return self[name]


def naming(name: str, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": name, "size": 1}


async def test_all_blobs_that_an_index_refers_to_are_needed() -> None:
    blobs = Blobs()
    image = blobs.put(manifest(2))
    attested = blobs.put(manifest(config=described("c2", "x"), layers=[described("sbom", "in-toto")]))
    kind = f"{OCI}.manifest.v1+json"
    other = digest("for another platform, never fetched")
    inner = blobs.put(index(naming(attested, kind)))
    outer = blobs.put(index(naming(image, kind), naming(other, kind), naming(inner, f"{OCI}.index.v1+json")))
    signature = blobs.put(
        manifest(config=described("c3", "x"), layers=[described("signature", "y")], subject=naming(outer, kind))
    )
    everything = {signature, outer, inner, image, attested, other} | {
        digest(name) for name in ("config", "layer0", "layer1", "c2", "sbom", "c3", "signature")
    }
    assert await closure(blobs.read, [signature]) == everything
    assert await closure(blobs.read, [image]) == {image, digest("config"), digest("layer0"), digest("layer1")}


async def test_damaged_and_endless_documents_are_not_followed() -> None:
    blobs = Blobs()
    blobs[digest("damaged")] = b"{"
    assert await closure(blobs.read, [digest("damaged")]) == {digest("damaged")}
    chain = digest("end")
    for _ in range(2500):
        chain = blobs.put(index(naming(chain, f"{OCI}.index.v1+json")))
    assert 2000 <= len(await closure(blobs.read, [chain])) <= 2002


# --- records ----------------------------------------------------------------------------------------------------


async def imported(world: World, library: ImageLibrary, name: str = "tiny") -> Image:
    file = await world.upload(name, unified(name))
    done = await world.operations.finish(library.start_import([file], aliases=[name]))
    return library.get(Ref.default(str(done.metadata["fingerprint"])))


async def test_an_image_is_recorded_under_its_manifest() -> None:
    world = World()
    image = await imported(world, await world.start())
    assert [entry.key for entry in await world.state.range("/images/")] == [f"/images/default/{image.manifest}"]
    assert orjson.loads(await (await world.start()).store.read(image.manifest))["annotations"] == {
        "org.isola.image.fingerprint": image.fingerprint
    }


async def test_records_of_the_earlier_version_are_moved_to_their_manifests() -> None:
    world = World()
    first = await imported(world, await world.start())
    second = await imported(world, await world.start(), "second")
    for entry in await world.state.range("/images/"):
        await world.state.delete(entry.key)
    twin = Image(**{name: getattr(second, name) for name in Image.__slots__} | {"manifest": first.manifest})
    for image in (first, twin):
        await world.state.put(f"/images/default/{image.fingerprint}", encode(image))
    for _ in range(2):
        library = await world.start()
        assert {image.fingerprint for image in library} == {first.fingerprint, second.fingerprint}
        assert library.get(first.ref) == first
        assert library.get(second.ref) == twin, "two of one manifest are both kept"
        assert library.resolve(Ref.default("second")) == twin
    keys = {entry.key.removeprefix("/images/default/") for entry in await world.state.range("/images/")}
    assert len(keys) == 2 and first.manifest in keys
    for image in (twin, first):
        await library.used(image.ref)
        assert library.get(image.ref).last_used_at is not None
        assert library.revision(image.ref)
        await world.operations.finish(library.start_delete(image.ref))
    assert list(library) == [] and await world.blobs() == set()


async def of_an_index(intake: Intake, library: ImageLibrary) -> tuple[Image, set[str]]:
    """An image chosen from an index, with its attestation and all its blobs."""
    layer = await intake.put_bytes(unified(), "tar")
    described_config = await intake.put_bytes(config(), f"{OCI}.config.v1+json")
    layers = [naming(layer.digest, f"{OCI}.layer.v1.tar+gzip")]
    document = manifest(layers=layers, config=described_config.document())
    at = await intake.put_bytes(orjson.dumps(document), f"{OCI}.manifest.v1+json")
    sbom = await intake.put_bytes(b"sbom", "in-toto")
    attested = manifest(config=described_config.document(), layers=[sbom.document()])
    attestation = await intake.put_bytes(orjson.dumps(attested), f"{OCI}.manifest.v1+json")
    whole = await intake.put_bytes(orjson.dumps(index(at.document(), attestation.document())), f"{OCI}.index.v1+json")
    parsed = read_document(await library.store.read(at.digest))
    assert isinstance(parsed, Manifest)
    image = oci_image(at, parsed, read_config(config()), now=NOW, index=whole.digest)
    return image, {each.digest for each in (layer, described_config, at, sbom, attestation, whole)}


async def test_the_blobs_of_an_index_are_kept_as_long_as_its_image() -> None:
    world = World()
    library = await world.start()
    intake = library.store.intake()
    image, blobs = await of_an_index(intake, library)
    await library._recording.record(image, ["app"], DAEMON)
    intake.close()
    await library.collect_garbage()
    for _ in range(2):
        assert await world.blobs() == blobs
        library = await world.start()
    assert library.resolve(Ref.default("app")) == image
    await world.operations.finish(library.start_delete(Ref.default(image.fingerprint)))
    assert await world.blobs() == set()


async def test_the_blobs_of_an_image_that_another_process_has_recorded_are_kept() -> None:
    world = World()
    library = await world.start()
    intake = library.store.intake()
    image, blobs = await of_an_index(intake, library)
    await world.state.put(f"/images/{image.ref.renamed(image.manifest).key}", encode(image))
    await library._records.load()
    intake.close()
    assert await library.collect_garbage() == 0
    assert await world.blobs() == blobs
