"""The contract of image sources, for the whole registry: on a fake host, and for files also on a real one."""

import asyncio
import dataclasses
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import kernels
import orjson
import pytest
from image_library import split, unified
from image_sources import GOOD, Bench, bench, taken
from tars import directory, member, packed, symlink, tar

from isola import registry
from isola.errors import CommandFailed, DriverUnavailable, InvalidInput, IsolaError, UnsafeArchive, Unsupported
from isola.host import Host
from isola.host.linux import linux_host
from isola.images.debian_recipe import HOOKS, KEYRING
from isola.images.manifest import parts_of
from isola.images.oci_manifest import read_document
from isola.images.source import SourceRequest
from isola.model.probe import Probe
from isola.testing.host import fake_host
from isola.testing.processes import Call
from isola.testing.registry import FakeRegistry
from isola.testing.system import FakeSystem

PROGRAMS = {name: Path(f"/usr/bin/{name}") for name in ("mmdebstrap", "unshare", "setpriv", "sqfs2tar")}
BUSYBOX = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0" + bytes(44) + b"BusyBox v1.35.0 (Debian)"
"""A statically linked ELF program."""
DEBIAN = tar(
    directory("./"), directory("./usr"), symlink("./usr/sbin/init", "/lib/systemd/systemd"), member("./etc/machine-id")
)


async def mmdebstrap(call: Call) -> int:
    """Imitates the output of mmdebstrap, and writes a small root to the target."""
    if any("no.such.mirror" in argument for argument in call.argv):
        call.err(b"Err:1 http://no.such.mirror bookworm InRelease\nE: apt-get update failed\n")
        return 25
    if any("old.mirror" in argument for argument in call.argv):
        call.err(EXPIRED + b"E: apt-get update failed\n")
        return 25
    for line in (
        "I: running apt-get update...",
        "I: downloading packages with apt...",
        "0 upgraded, 2 newly installed, 0",
    ):
        call.err(line.encode() + b"\n")
    await asyncio.sleep(0)
    call.err(b"I: installing remaining packages inside the chroot...\nSetting up a\nI: creating tarball...\n")
    host = BUILDING[-1]
    target = next(Path(argument) for argument in call.argv if argument.endswith("root.tar"))
    await host.files.write(target, DEBIAN)
    return 0


BUILDING: list[Host] = []
EXPIRED = (
    b"E: Release file for http://old.mirror/debian/dists/sid/InRelease is expired (invalid since 3d 2h 1min 9s). "
    b"Updates for this repository will not be applied.\n"
)


async def on_fake_host(name: str) -> Bench:
    host = fake_host(
        programs={"setpriv": mmdebstrap, "mmdebstrap": mmdebstrap},
        system=FakeSystem(programs=PROGRAMS | {"busybox": Path("/bin/busybox")}),
    )
    BUILDING.append(host)
    served = host.http.servers["https://registry.example"] = FakeRegistry("https://registry.example")
    served.add_image("system", "1", {"sbin/init": b"#!"}, config={"Labels": {"org.isola.image.type": "system"}})
    for path in (KEYRING, f"{HOOKS}/x", "/bin/busybox", "/up/meta", "/up/root", "/up/unified"):
        await host.files.make_directory(Path(path).parent)
    await host.files.write(Path(KEYRING), b"keys")
    await host.files.write(Path("/bin/busybox"), BUSYBOX)
    for path, data in (("/usr/lib/ipxe/ipxe.lkrn", kernels.bzimage()),):
        await host.files.make_directory(Path(path).parent)
        await host.files.write(Path(path), data)
    metadata, root = split()
    for path, data in (("meta", metadata), ("root", root), ("unified", unified())):
        await host.files.write(Path("/up") / path, data)
    return await bench(host, name, Path("/store"), Path("/up"))


@pytest.fixture(
    params=[*(f"fake {name}" for name in registry.names("images")), "linux file", "linux busybox", "linux ipxe"]
)
async def made(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    kind, name = request.param.split()
    if kind == "fake":
        yield await on_fake_host(name)
        return
    with tempfile.TemporaryDirectory(prefix="isola-images-") as directory_:
        place = Path(directory_)
        for file, data in zip(("meta", "root"), split(), strict=True):
            (place / file).write_bytes(data)
        (place / "unified").write_bytes(unified())
        yield await bench(linux_host(), name, place / "store", place)


async def test_the_probe_has_a_result(made: Bench) -> None:
    probe = await made.source.probe(made.host)
    assert probe.available or (probe.reason and probe.remedy)


async def test_offered_images_have_one_canonical_name(made: Bench) -> None:
    offers = made.source.offers()
    for name, description in offers.items():
        assert description
        assert made.source.canonical(name) in offers
        assert made.source.canonical(made.source.canonical(name)) == made.source.canonical(name)


async def test_an_image_is_complete(made: Bench) -> None:
    """All blobs are there, and the fingerprint is the digest of what LXD exports, or of the manifest."""
    image = await made.fetch()
    manifest = await made.store.read(image.manifest)
    artifact = await made.store.read(image.artifact) if image.artifact else b""
    for document in filter(None, (manifest, artifact)):
        for named in read_document(document).references():
            assert await made.store.has(named.digest)
    if artifact:
        paths = [made.store.path(part.digest) for part in parts_of(artifact)]
        assert await made.host.files.digest(*paths) == (image.fingerprint, image.size)
    else:
        assert image.manifest == f"sha256:{image.fingerprint}"
    fields = orjson.loads(manifest)
    assert [layer["digest"] for layer in fields["layers"]] == [layer.digest for layer in image.layers]
    config = orjson.loads(await made.store.read(fields["config"]["digest"]))
    assert len(config["rootfs"]["diff_ids"]) == len(image.layers)
    assert config["config"]["Labels"]["org.isola.image.type"] in ("system", "unikernel")
    assert image.architecture == "x86_64"


async def test_the_diff_id_is_that_of_the_unpacked_layer(made: Bench) -> None:
    image = await made.fetch()
    manifest = orjson.loads(await made.store.read(image.manifest))
    config = orjson.loads(await made.store.read(manifest["config"]["digest"]))
    report = await made.host.archives.repack(made.store.path(image.layers[0].digest), None)
    assert config["rootfs"]["diff_ids"] == [report.diff_id]


async def test_progress_is_shown_and_nothing_stays_in_scratch(made: Bench) -> None:
    await made.fetch()
    assert made.operation is not None
    steps = made.operation.view().steps
    assert steps
    assert all(step.finished for step in steps)
    assert all(step.total is None or step.done == step.total for step in steps)
    assert await made.scratch() == ()


async def test_the_same_request_gives_the_same_image(made: Bench) -> None:
    first, second = await made.fetch(), await made.fetch()
    assert dataclasses.replace(first, uploaded_at=second.uploaded_at) == second


async def test_blobs_of_an_unrecorded_image_are_removed(made: Bench) -> None:
    await made.fetch()
    made.intake.close()

    async def nothing() -> set[str]:
        return set()

    await made.store.sweep(nothing)
    assert await made.store.digests() == ()


async def test_invalid_requests_of_images_are_refused(made: Bench) -> None:
    for request in (SourceRequest(name="no/such"), SourceRequest(options={"no": "such"}, name=made.request.name)):
        if made.request.name or request.name:
            with pytest.raises(InvalidInput):
                await made.fetch(request)
    assert await made.scratch() == ()


async def test_cancelling_leaves_nothing(made: Bench) -> None:
    for wait in (0, 1, 2, 5, 10, 20):
        task = asyncio.ensure_future(made.fetch())
        for _ in range(wait):
            await asyncio.sleep(0.002)
        if made.operation is not None and made.operation.may_cancel:
            made.operation.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await made.scratch() == ()


# --- files in particular ---------------------------------------------------------------------------------------


@pytest.fixture(params=["fake", "linux"])
async def files(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield await on_fake_host("file")
        return
    with tempfile.TemporaryDirectory(prefix="isola-images-") as directory_:
        yield await bench(linux_host(), "file", Path(directory_) / "store", Path(directory_))


INIT = member("rootfs/sbin/init", b"#!", mode=0o755)


@pytest.mark.parametrize("kind", ["plain", "gzip", "bzip2", "xz", "zstd"])
async def test_unified_in_every_compression(files: Bench, kind: str) -> None:
    data = packed(tar(GOOD, directory("rootfs"), INIT), kind)
    image = await taken(files, data)
    assert image.fingerprint == hashlib.sha256(data).hexdigest()
    assert image.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.mark.parametrize(("kind", "media"), [("plain", ".tar"), ("gzip", "+gzip"), ("zstd", "+zstd"), ("xz", "+zstd")])
async def test_split_roots_are_unchanged_if_oci_allows_their_format(files: Bench, kind: str, media: str) -> None:
    root = packed(tar(directory("./"), member("./sbin/init", b"#!")), kind)
    image = await taken(files, packed(tar(GOOD), "xz"), root)
    assert image.layers[0].media_type.endswith(media)
    stored = await files.host.files.read(files.store.path(parts_of(await files.store.read(image.artifact))[1].digest))
    assert stored == root


async def test_members_with_a_leading_dot(files: Bench) -> None:
    image = await taken(
        files,
        tar(directory("."), member("./metadata.yaml", GOOD[1]), directory("./rootfs"), member("./rootfs/a", b"a")),
    )
    assert image.properties == {"os": "X"}


@pytest.mark.parametrize(
    ("uploads", "kind"),
    [
        ([tar(GOOD)], InvalidInput),
        ([tar(INIT)], IsolaError),
        ([tar(member("metadata.yaml", b"architecture: vax\ncreation_date: 1\n"), INIT)], InvalidInput),
        ([tar(member("metadata.yaml", b"architecture: s390x\ncreation_date: 1\n"), INIT)], Unsupported),
        ([tar(member("metadata.yaml", b"x" * 10**6), INIT)], InvalidInput),
        ([tar(symlink("metadata.yaml", "/etc/shadow"), INIT)], IsolaError),
        ([tar(GOOD, INIT, member("../x", b"x"))], UnsafeArchive),
        ([tar(GOOD), tar(member("../x", b"x"))], UnsafeArchive),
        ([tar(GOOD), b"QFI\xfb" + bytes(100)], InvalidInput),
        ([tar(GOOD), b"not an archive" * 100], InvalidInput),
        ([tar(GOOD), tar()], InvalidInput),
        ([b"hsqs" + bytes(100)], InvalidInput),
        ([b"not an archive" * 100], InvalidInput),
        ([packed(tar(GOOD, INIT), "gzip")[:-30]], InvalidInput),
        ([], InvalidInput),
        ([tar(GOOD)] * 3, InvalidInput),
    ],
    ids=[
        "no root", "no metadata", "vax", "foreign", "large metadata", "metadata is a link", "escape", "escape in split",
        "qcow2", "noise as root", "empty root", "lone squashfs", "noise", "cut", "nothing", "three files",
    ],
)  # fmt: skip
async def test_invalid_files_are_refused_and_leave_nothing(
    files: Bench, uploads: list[bytes], kind: type[IsolaError]
) -> None:
    with pytest.raises(kind):
        await taken(files, *uploads)
    files.intake.close()
    assert await files.scratch() == ()


# --- root file systems without metadata ------------------------------------------------------------------------

RELEASE = b"""PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION_CODENAME=bookworm
ID=debian
"""
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(44)
BARE = (
    directory("./"),
    directory("./etc"),
    symlink("./etc/os-release", "../usr/lib/os-release"),
    directory("./usr"),
    member("./usr/lib/os-release", RELEASE),
    member("./usr/bin/dash", ELF, mode=0o755),
    symlink("./bin", "usr/bin"),
    symlink("./sbin", "usr/sbin"),
    symlink("./usr/sbin/init", "../lib/systemd/systemd"),
)


@pytest.mark.parametrize(("kind", "media"), [("plain", ".tar"), ("gzip", "+gzip"), ("zstd", "+zstd"), ("xz", "+zstd")])
async def test_metadata_of_a_bare_root_file_system_is_derived(files: Bench, kind: str, media: str) -> None:
    data = packed(tar(*BARE), kind)
    image = await taken(files, data)
    assert image.architecture == "x86_64"
    assert image.properties == {
        "os": "Debian", "release": "bookworm", "version": "12", "variant": "default", "architecture": "amd64",
        "serial": "20200913", "description": "Debian bookworm amd64 (20200913)",
    }  # fmt: skip
    assert (image.config.system, image.config.stop_signal) == (True, "SIGRTMIN+3")
    assert image.layers[0].media_type.endswith(media)
    metadata, root = parts_of(await files.store.read(image.artifact))
    assert await files.host.files.read(files.store.path(root.digest)) == data
    assert (await taken(files, data)).fingerprint == image.fingerprint
    exported = [await files.host.files.read(files.store.path(part.digest)) for part in (metadata, root)]
    assert (await taken(files, *exported)).fingerprint == image.fingerprint


async def test_properties_of_the_import_override_derived_ones(files: Bench) -> None:
    given = {"os": "Mine", "architecture": "x86_64", "isola.stop-signal": "SIGTERM"}
    image = await taken(files, tar(directory("etc"), directory("bin"), directory("var")), properties=given)
    assert (image.architecture, image.config.stop_signal) == ("x86_64", "SIGTERM")
    assert image.properties["os"] == "Mine"
    assert image.properties["release"] == "unknown"


async def test_a_root_without_an_init_is_an_application(files: Bench) -> None:
    root = tar(directory("etc"), member("etc/os-release", b"ID=alpine\nVERSION_ID=3.20.1\n"), directory("var"),
               member("bin/busybox", ELF))  # fmt: skip
    image = await taken(files, root)
    assert (image.config.system, image.config.command) == (False, ("/bin/sh",))
    assert (image.properties["os"], image.properties["release"]) == ("Alpine", "3.20.1")


@pytest.mark.parametrize(
    ("upload", "remedy"),
    [
        (tar(INIT), "metadata.yaml"),
        (tar(member("a"), member("b")), "etc"),
        (tar(directory("etc"), directory("bin"), directory("var")), "architecture"),
    ],
    ids=["rootfs without metadata", "anything", "no programs"],
)
async def test_other_archives_are_refused_with_a_remedy(files: Bench, upload: bytes, remedy: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await taken(files, upload)
    assert remedy in caught.value.remedy
    files.intake.close()
    assert await files.scratch() == ()


@pytest.mark.parametrize(
    "release",
    [b"", b"ID=", b"\xff\xfe=\n", b"ID='unclosed\n", b"ID=" + b"x" * 5000, b"ID=$(reboot)\nVERSION_ID=`id`\n",
     b"ID=\x1b[31m\n", b"NAME=x"],
)  # fmt: skip
async def test_malformed_release_information_is_ignored(files: Bench, release: bytes) -> None:
    image = await taken(files, tar(*BARE[:2], member("etc/os-release", release), *BARE[3:4], *BARE[5:]))
    assert image.properties["os"] == "Linux"


# --- Debian in particular --------------------------------------------------------------------------------------


async def test_debian_names_missing_packages() -> None:
    source = registry.load("images", "debian")
    probe = await source.probe(fake_host())
    assert not probe.available
    assert "mmdebstrap" in probe.remedy
    assert "debian-archive-keyring" in probe.remedy


@pytest.mark.parametrize(
    ("script", "version"),
    [(b"#!/usr/bin/perl\n\nour $VERSION = '1.3.5';\n", "1.3.5"), (b"\xff\0", ""), (None, "")],
)
async def test_debian_reports_the_version_of_mmdebstrap(script: bytes | None, version: str) -> None:
    made = await on_fake_host("debian")
    if script is not None:
        await made.host.files.make_directory(Path("/usr/bin"))
        await made.host.files.write(PROGRAMS["mmdebstrap"], script)
    await made.host.files.make_directory(Path(HOOKS))
    assert await made.source.probe(made.host) == Probe(True, version=version)
    assert made.host.processes.calls == []  # type: ignore[attr-defined]


async def test_debian_uses_the_repositories_of_this_machine() -> None:
    made = await on_fake_host("debian")

    async def apt_get(call: Call) -> int:
        call.out(b"http://apt.example/debian|bookworm|main|Debian\n")
        return 0

    made.host.processes.programs["apt-get"] = apt_get  # type: ignore[attr-defined]
    made.host.system.programs["apt-get"] = Path("/usr/bin/apt-get")  # type: ignore[attr-defined]
    await made.fetch(SourceRequest(name="debian/13"))
    assert made.host.processes.calls[-1].argv[-1] == "deb http://apt.example/debian trixie main"  # type: ignore[attr-defined]


async def test_debian_passes_its_options_to_mmdebstrap() -> None:
    made = await on_fake_host("debian")
    options = {"packages": "curl, vim-tiny", "mirror": "http://mirror.example/debian", "epoch": "1700000000"}
    image = await made.fetch(SourceRequest(name="debian/trixie", options=options))
    argv = made.host.processes.calls[-1].argv  # type: ignore[attr-defined]
    assert argv[-3] == "trixie"
    assert argv[-1] == "http://mirror.example/debian"
    assert any(each.startswith("--include=") and each.endswith(",curl,vim-tiny") for each in argv)
    assert made.host.processes.calls[-1].env["SOURCE_DATE_EPOCH"] == "1700000000"  # type: ignore[attr-defined]
    assert image.properties["release"] == "trixie"
    assert image.properties["serial"] == "20231114"
    assert image.config.stop_signal == "SIGRTMIN+3"
    assert image.source["driver"] == "debian"


@pytest.mark.parametrize(
    "options",
    [
        {"release": "potato"},
        {"packages": "-oAPT::x=y"},
        {"packages": "?essential"},
        {"mirror": "file:///etc"},
        {"mirror": "deb http://x y"},
        {"variant": "custom"},
        {"epoch": "-1"},
    ],
)
async def test_debian_refuses_ambiguous_options(options: dict[str, str]) -> None:
    made = await on_fake_host("debian")
    with pytest.raises(InvalidInput) as caught:
        await made.fetch(SourceRequest(options=options))
    assert caught.value.field == f"options.{next(iter(options))}"


async def test_debian_shows_the_errors_of_apt() -> None:
    made = await on_fake_host("debian")
    with pytest.raises(CommandFailed, match="Err:1 http://no"):
        await made.fetch(SourceRequest(options={"mirror": "http://no.such.mirror/"}))
    assert await made.scratch() == ()


async def test_debian_has_a_remedy_for_an_outdated_mirror() -> None:
    made = await on_fake_host("debian")
    with pytest.raises(CommandFailed) as caught:
        await made.fetch(SourceRequest(name="debian/sid", options={"mirror": "http://old.mirror/debian"}))
    assert "is expired (invalid since 3d 2h 1min 9s)" in caught.value.evidence
    for way_out in ("expired", "another mirror", "clock"):
        assert way_out in caught.value.remedy


@pytest.mark.parametrize(
    "program", [None, b"#!/bin/sh\n", BUSYBOX[:54] + b"\x38\0\x01\0" + bytes(6) + b"\x03\0\0\0" + bytes(52)]
)
async def test_busybox_must_be_statically_linked(program: bytes | None) -> None:
    """A dynamically linked busybox would not start in a root without libraries."""
    made = await on_fake_host("busybox")
    if program is None:
        made.host.system.programs.pop("busybox")  # type: ignore[attr-defined]
    else:
        if len(program) > 60:
            program = program[:32] + (64).to_bytes(8, "little") + program[40:]
        await made.host.files.write(Path("/bin/busybox"), program)
    probe = await made.source.probe(made.host)
    assert (probe.available, probe.remedy) == (False, "apt-get install busybox-static")
    with pytest.raises(DriverUnavailable):
        await made.fetch()
    assert await made.scratch() == ()


async def test_busybox_reports_its_version() -> None:
    made = await on_fake_host("busybox")
    assert (await made.source.probe(made.host)).version == "1.35.0"
    image = await made.fetch()
    assert image.properties["release"] == "1.35.0"
    assert (image.config.system, image.config.stop_signal) == (True, "SIGPWR")
