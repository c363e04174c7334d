"""The contract of archives, for the fake and the real implementation."""

import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tars import device, directory, hard_link, member, packed, symlink, tar

from isola.errors import AlreadyExists, InvalidInput, NotFound, TooLarge, UnsafeArchive
from isola.host.archive.archives import Archives, LinuxArchives, UnpackLimits, UnpackReport
from isola.host.archive.members import ArchiveMember
from isola.host.files import Entry, Files, LinuxFiles
from isola.host.process import LinuxProcesses
from isola.testing.archives import FakeArchives
from isola.testing.files import FakeFiles


@dataclass
class Place:
    """A host with an empty target, and archives to unpack there."""

    files: Files
    archives: Archives
    directory: Path

    @property
    def target(self) -> Path:
        return self.directory / "target"

    async def unpack(self, data: bytes, **options: object) -> UnpackReport:
        source = self.directory / "archive"
        await self.files.write(source, data)
        return await self.archives.unpack(source, self.target, **options)  # type: ignore[arg-type]

    async def seen(self, path: str, *, follow: bool = False) -> Entry:
        async with self.files.root(self.target) as root:
            return await root.stat(path, follow=follow)

    async def names(self, path: str) -> tuple[str, ...]:
        async with self.files.root(self.target) as root:
            return tuple([name async for piece in await root.names(path) for name in piece])

    async def content(self, path: str) -> bytes:
        async with self.files.root(self.target) as root:
            return b"".join([block async for block in await root.read(path)])


@pytest.fixture(params=["fake", "linux"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "fake":
        files = FakeFiles()
        await files.make_directory(Path("/place/target"))
        yield Place(files, FakeArchives(files), Path("/place"))
        return
    with tempfile.TemporaryDirectory(prefix="isola-archives-") as name:
        os.mkdir(Path(name) / "target")
        yield Place(LinuxFiles(), LinuxArchives(LinuxProcesses()), Path(name))


TREE = tar(
    directory("./", mode=0o755),
    directory("./etc", mode=0o750, uid=1, gid=2),
    member("./etc/passwd", b"root:x:0:0\n", mode=0o640, uid=3, gid=4),
    symlink("./bin", "usr/bin", uid=5, gid=6),
    directory("./usr/bin"),
    member("./usr/bin/su", b"\x7fELF", mode=0o4755),
    hard_link("./usr/bin/su2", "./usr/bin/su"),
)


@pytest.mark.parametrize("kind", ["none", "gzip", "bzip2", "xz", "zstd"])
async def test_every_compression_is_known_by_content(place: Place, kind: str) -> None:
    told: list[int] = []
    data = packed(TREE, kind)
    report = await place.unpack(data, progress=told.append)
    assert report == UnpackReport(7, 15, diff_id=f"sha256:{hashlib.sha256(TREE).hexdigest()}")
    assert await place.content("/etc/passwd") == b"root:x:0:0\n"
    assert sum(told) == len(data)


async def test_owners_modes_and_links_are_kept(place: Place) -> None:
    await place.unpack(TREE)
    etc, passwd, link = await place.seen("/etc"), await place.seen("/etc/passwd"), await place.seen("/bin")
    assert (etc.kind, etc.mode, etc.uid, etc.gid) == ("directory", 0o750, 1, 2)
    assert (passwd.kind, passwd.mode, passwd.uid, passwd.gid) == ("file", 0o640, 3, 4)
    assert (link.kind, link.target, link.uid, link.gid) == ("symlink", "usr/bin", 5, 6)
    assert (await place.seen("/usr/bin/su2")).mode == 0o4755
    assert await place.content("/bin/su2") == b"\x7fELF"


async def test_device_nodes_are_left_out_and_named(place: Place) -> None:
    report = await place.unpack(tar(directory("dev"), device("dev/null"), device("dev/sda", kind=tarfile.BLKTYPE)))
    assert report.skipped == ("dev/null", "dev/sda")
    assert await place.names("/dev") == ()


async def test_fifos_are_kept(place: Place) -> None:
    await place.unpack(tar(member("f", type=tarfile.FIFOTYPE)))
    assert (await place.seen("/f")).kind == "other"


async def test_a_subtree_is_stripped(place: Place) -> None:
    report = await place.unpack(
        tar(
            member("metadata.yaml", b"x"),
            directory("rootfs", mode=0o711),
            member("rootfs/a", b"1"),
            hard_link("rootfs/b", "rootfs/a"),
            member("rootfsx/c", b"2"),
        ),
        subtree="rootfs",
    )
    assert await place.names("/") == ("a", "b")
    assert (await place.seen("/")).mode == 0o711
    assert report.entries == 5


async def test_missing_parents_are_made(place: Place) -> None:
    await place.unpack(tar(member("a/b/c", b"x")))
    assert await place.content("/a/b/c") == b"x"
    assert (await place.seen("/a/b")).mode == 0o755


async def test_absolute_names_lose_their_slash(place: Place) -> None:
    await place.unpack(tar(member("/etc/x", b"1"), hard_link("/etc/y", "/etc/x")))
    assert await place.content("/etc/y") == b"1"


async def test_later_entries_replace_earlier_ones(place: Place) -> None:
    await place.unpack(
        tar(
            member("a", b"1"),
            member("a", b"2", mode=0o600),
            symlink("l", "a"),
            member("l", b"3"),
            directory("d"),
            symlink("d", "a"),
            member("e", b"4"),
            directory("e"),
        )
    )
    assert await place.content("/a") == b"2"
    assert (await place.seen("/l")).kind == "file"
    assert (await place.seen("/d")).kind == "symlink"
    assert (await place.seen("/e")).kind == "directory"


async def test_relative_links_inside_are_followed(place: Place) -> None:
    await place.unpack(tar(directory("usr/bin"), symlink("bin", "usr/bin"), member("bin/x", b"1")))
    assert await place.content("/usr/bin/x") == b"1"
    assert (await place.seen("/bin")).kind == "symlink"


async def test_long_names_of_both_kinds(place: Place) -> None:
    long = "d" * 150 + "/" + "e" * 200
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        await place.unpack(tar(member(long, b"1"), symlink("l", "t" * 300), format=format))
        assert await place.content(long) == b"1"
        assert (await place.seen("l")).target == "t" * 300


async def test_whiteouts_are_unpacked_as_files_by_default(place: Place) -> None:
    await place.unpack(tar(member(".wh.a")))
    assert await place.names("/") == (".wh.a",)


async def test_whiteouts_hide(place: Place) -> None:
    await place.unpack(tar(directory("d"), member("d/.wh.a"), member("d/.wh..wh..opq"), member("b")), whiteouts=True)
    assert await place.names("/d") == ("a",)
    assert (await place.seen("/d/a")).kind in ("whiteout", "other")


@pytest.mark.parametrize(
    "members",
    [
        (member("../x", b"1"),),
        (member("a/../../x", b"1"),),
        (member("/../x", b"1"),),
        (directory(".."),),
        (symlink("l", "/etc"), member("l/x", b"1")),
        (symlink("l", "../../etc"), member("l/x", b"1")),
        (symlink("l", ".."), member("l/x", b"1")),
        (symlink("l", "nowhere"), member("l/x", b"1")),
        (hard_link("h", "../x"),),
        (hard_link("h", "/../x"),),
        (directory("d"), hard_link("h", "d")),
        (member("d/x", b"1"), symlink("d", "/etc")),
        (member("d/x", b"1"), member("d", b"2")),
    ],
)  # fmt: skip
async def test_attempts_to_leave_the_root_are_refused(
    place: Place, members: tuple[tuple[tarfile.TarInfo, bytes], ...]
) -> None:
    with pytest.raises(UnsafeArchive):
        await place.unpack(tar(*members))
    assert await place.files.names(place.directory) == ("archive", "target")


async def test_a_hard_link_to_a_missing_file_is_invalid(place: Place) -> None:
    with pytest.raises(InvalidInput):
        await place.unpack(tar(hard_link("h", "nothing")))


async def test_limits_are_enforced_on_archives(place: Place) -> None:
    with pytest.raises(UnsafeArchive):
        await place.unpack(tar(*(member(str(number)) for number in range(11))), limits=UnpackLimits(entries=10))
    with pytest.raises(UnsafeArchive):
        await place.unpack(tar(member("a", bytes(700)), member("b", bytes(700))), limits=UnpackLimits(bytes=1024))
    await place.unpack(tar(member("a", bytes(1024))), limits=UnpackLimits(bytes=1024))


async def test_implicit_directories_count_as_entries(place: Place) -> None:
    with pytest.raises(UnsafeArchive, match="too many entries"):
        await place.unpack(tar(member("d/" * 100 + "f")), limits=UnpackLimits(entries=50))


@pytest.mark.parametrize("kind", ["none", "gzip", "bzip2", "xz", "zstd"])
async def test_truncated_and_damaged_archives_are_invalid(place: Place, kind: str) -> None:
    data = packed(tar(member("a", os.urandom(100_000)), member("b", b"x")), kind)
    for broken in (data[:1000], data[: len(data) // 2], data[: len(data) - 2000], _flipped(data)):
        with pytest.raises(InvalidInput):
            await place.unpack(broken)


def _flipped(data: bytes) -> bytes:
    """Damage in the first header, which any tar notices, or in the compressed data."""
    return data[:60] + bytes([data[60] ^ 0xFF]) + data[61:] if data[:1] == b"a" else data[:-6] + bytes(6)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"hello world" * 100, bytes(range(256)) * 4, b"\x1f\x8b", b"PK\x03\x04" * 200]
)
async def test_other_files_are_invalid(place: Place, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        await place.unpack(data)


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
async def test_the_diff_id_is_that_of_the_whole_uncompressed_stream(place: Place, kind: str) -> None:
    stream = tar(member("a", b"content")) + bytes(3 * 512)  # bytes after the end belong to it
    report = await place.unpack(packed(stream, kind))
    assert report.diff_id == f"sha256:{hashlib.sha256(stream).hexdigest()}"


async def test_a_missing_archive_is_not_found(place: Place) -> None:
    with pytest.raises(NotFound):
        await place.archives.unpack(place.directory / "nothing", place.target)


# --- single members --------------------------------------------------------------------------------------------


async def test_a_member_is_read(place: Place) -> None:
    await place.files.write(
        place.directory / "a", packed(tar(directory("m"), member("./m/x", b"one"), member("y", b"two")), "xz")
    )
    assert await place.archives.read_member(place.directory / "a", ("m/x",)) == b"one"
    assert await place.archives.read_member(place.directory / "a", ("nothing", "y")) == b"two"
    with pytest.raises(NotFound):
        await place.archives.read_member(place.directory / "a", ("m", "z"))
    with pytest.raises(TooLarge):
        await place.archives.read_member(place.directory / "a", ("y",), limit=2)


async def test_a_member_of_a_missing_archive(place: Place) -> None:
    with pytest.raises(NotFound):
        await place.archives.read_member(place.directory / "nothing", ("x",))
    await place.files.write(place.directory / "bad", b"not a tar archive at all" * 100)
    with pytest.raises(InvalidInput):
        await place.archives.read_member(place.directory / "bad", ("x",))


async def test_several_members_are_read_at_once(place: Place) -> None:
    archive, members = (
        place.directory / "a",
        (directory("t"), member("./t/x", b"one"), member("y", b"two"), symlink("z", "y")),
    )
    await place.files.write(archive, packed(tar(*members, member("t/x", b"again")), "gzip"))
    found = await place.archives.read_members(archive, ("t/x", "y", "z", "t", "nothing"))
    assert found == {"t/x": b"one", "y": b"two"}
    assert await place.archives.read_members(archive, ("t/x", "y"), limit=6) == found
    with pytest.raises(TooLarge):
        await place.archives.read_members(archive, ("t/x", "y"), limit=5)
    assert await place.archives.read_members(archive, ("nothing",)) == {}


async def test_a_document_is_read(place: Place) -> None:
    archive = place.directory / "a"
    await place.files.write(archive, tar(member("d.yaml", b"a: {b: [1, 'two', 2024-01-01]}\nc:\n"), member("e")))
    assert await place.archives.read_document(archive, ("d.yaml",)) == {"a": {"b": ["1", "two", "2024-01-01"]}, "c": ""}
    assert await place.archives.read_document(archive, ("e",)) is None
    with pytest.raises(TooLarge):
        await place.archives.read_document(archive, ("d.yaml",), limit=10)
    with pytest.raises(NotFound):
        await place.archives.read_document(archive, ("nothing",))


@pytest.mark.parametrize("text", [b"a: {", b"x: " + b"[" * 2000 + b"]" * 2000, b"a: &a [x]\nb: *a", b"{1: 2, [3]: 4}"])
async def test_malformed_documents_are_invalid(place: Place, text: bytes) -> None:
    await place.files.write(place.directory / "a", tar(member("d.yaml", text)))
    with pytest.raises(InvalidInput):
        await place.archives.read_document(place.directory / "a", ("d.yaml",))


async def test_this_host_confines_the_reader_of_archives(place: Place) -> None:
    assert await place.archives.lacks() == ()


# --- packing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "gzip", "bzip2", "xz", "zstd"])
async def test_packed_trees_are_unpacked_unchanged(place: Place, kind: str) -> None:
    base = 100000
    await place.unpack(
        tar(
            directory("./", uid=base, gid=base),
            directory("d", mode=0o1777, uid=base + 1, gid=base),
            member("d/f", b"content", mode=0o4711, uid=base + 2, gid=base + 3),
            symlink("l", "/d/f", uid=base, gid=base),
            member("foreign", uid=5, gid=base + 70000),
        )
    )
    packed_as = place.directory / "packed"
    await place.archives.pack(place.target, packed_as, prefix="rootfs", compression=kind, base=base)
    await place.files.make_directory(place.directory / "again")
    await place.archives.unpack(packed_as, place.directory / "again", subtree="rootfs")
    async with place.files.root(place.directory / "again") as root:
        names = [name async for piece in await root.names("/") for name in piece]
        d, f, link, foreign = [await root.stat(path, follow=False) for path in ("d", "d/f", "l", "foreign")]
        content = b"".join([block async for block in await root.read("d/f")])
    assert names == ["d", "foreign", "l"]
    assert (d.mode, d.uid, d.gid) == (0o1777, 1, 0)
    assert (f.mode, f.uid, f.gid, content) == (0o4711, 2, 3, b"content")
    assert (link.target, link.uid) == ("/d/f", 0)
    assert (foreign.uid, foreign.gid) == (65534, 65534)


async def test_packing_twice_gives_the_same_bytes(place: Place) -> None:
    await place.unpack(TREE)
    for name in ("one", "two"):
        await place.archives.pack(place.target, place.directory / name, compression="gzip")
    assert await place.files.read(place.directory / "one") == await place.files.read(place.directory / "two")
    with pytest.raises(AlreadyExists):
        await place.archives.pack(place.target, place.directory / "one")


async def test_an_unknown_compression_leaves_nothing(place: Place) -> None:
    with pytest.raises(InvalidInput):
        await place.archives.pack(place.target, place.directory / "packed", compression="rar")
    assert await place.files.names(place.directory) == ("target",)


async def test_packed_archives_read_as_tar_archives(place: Place) -> None:
    await place.unpack(TREE)
    await place.archives.pack(place.target, place.directory / "packed", prefix="rootfs")
    with tarfile.open(fileobj=io.BytesIO(await place.files.read(place.directory / "packed"))) as archive:
        names = archive.getnames()
        modes = {info.name: stat.S_IMODE(info.mode) for info in archive}
    assert names[0] == "rootfs"
    assert set(names) >= {"rootfs/etc", "rootfs/etc/passwd", "rootfs/bin", "rootfs/usr/bin/su"}
    assert modes["rootfs/usr/bin/su"] == 0o4755


# --- members by their places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
async def test_members_are_listed_with_their_places(place: Place, kind: str) -> None:
    source, plain = place.directory / "archive", place.directory / "plain"
    await place.files.write(source, packed(TREE, kind))
    told: list[int] = []
    index = await place.archives.list_members(source, plain, progress=told.append)
    assert index.file == (source if kind == "none" else plain)
    found = {each.name: each for each in index.members}
    assert [each.name for each in index.members if each.directory] == ["", "etc", "usr/bin"]
    assert (found["etc/passwd"].size, found["etc/passwd"].uid, found["etc/passwd"].mode) == (11, 3, 0o640)
    assert (found["bin"].link, found["bin"].hard) == ("usr/bin", False)
    assert (found["usr/bin/su2"].link, found["usr/bin/su2"].hard) == ("./usr/bin/su", True)
    assert await place.archives.content(index, found["etc/passwd"], 4) == b"root"
    assert sum(told) == len(packed(TREE, kind))
    copy = place.directory / "copy"
    assert await place.archives.extract(index, found["etc/passwd"], copy) == (
        f"sha256:{hashlib.sha256(b'root:x:0:0' + bytes([10])).hexdigest()}"
    )
    assert await place.files.read(copy) == b"root:x:0:0\n"
    with pytest.raises(AlreadyExists):
        await place.archives.extract(index, found["etc/passwd"], copy)


async def test_the_first_names_are_read_alone(place: Place) -> None:
    await place.files.write(place.directory / "archive", packed(TREE, "gzip"))
    assert await place.archives.first_names(place.directory / "archive", 2) == ["", "etc"]
    await place.files.write(place.directory / "other", b"x" * 2000)
    with pytest.raises(InvalidInput):
        await place.archives.first_names(place.directory / "other")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (tar(*(member(f"f{number}") for number in range(6))), UnsafeArchive),
        (tar(member("n" * 1100)), UnsafeArchive),
        (tar(member("../x")), UnsafeArchive),
        (tar(member("a", b"x" * 3000))[:2000], InvalidInput),
        (packed(tar(member("a", b"x" * 3000)), "gzip")[:-20], InvalidInput),
        (b"", InvalidInput),
    ],
    ids=["many", "long name", "outside", "truncated", "truncated gzip", "empty"],
)
async def test_listing_what_is_hostile_or_damaged(place: Place, data: bytes, error: type[Exception]) -> None:
    source, plain = place.directory / "archive", place.directory / "plain"
    await place.files.write(source, data)
    with pytest.raises(error):
        await place.archives.list_members(source, plain, most=5)
    assert not await place.files.exists(plain)


async def test_a_member_beyond_the_end_is_not_extracted(place: Place) -> None:
    source = place.directory / "archive"
    await place.files.write(source, TREE)
    index = await place.archives.list_members(source, place.directory / "plain")
    beyond = ArchiveMember("x", len(TREE) - 10, 100)
    with pytest.raises(InvalidInput):
        await place.archives.content(index, beyond, 100)
    with pytest.raises(InvalidInput):
        await place.archives.extract(index, beyond, place.directory / "copy")
    assert not await place.files.exists(place.directory / "copy")


async def test_a_tree_is_streamed(place: Place) -> None:
    await place.unpack(TREE)
    data = b"".join([piece async for piece in place.archives.stream(place.target)])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = {each.removeprefix("./") for each in archive.getnames()}
    assert {"etc/passwd", "bin", "usr/bin/su"} <= names
    pieces = place.archives.stream(place.target)
    assert await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]


# --- archives that arrive -------------------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 1024
SAVED = tar(
    directory("a"),
    member("a/layer.tar", LARGE),
    member("a/json", b"{}"),
    symlink("b", "a/layer.tar"),
    member("last", b""),
)


async def arriving(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("kind", ["none", "gzip"])
@pytest.mark.parametrize("size", [700, 1 << 20])
async def test_an_archive_is_taken_apart_while_it_arrives(place: Place, kind: str, size: int) -> None:
    index = await place.archives.receive(arriving(packed(SAVED, kind), size), place.directory)
    found = {each.name: each for each in index.members}
    assert list(found) == ["a", "a/layer.tar", "a/json", "b", "last"]
    assert (found["b"].link, found["a"].directory, found["last"].size) == ("a/layer.tar", True, 0)
    assert await place.archives.content(index, found["a/json"], 10) == b"{}"
    assert await place.archives.content(index, found["a/layer.tar"], 300) == LARGE[:300]
    for name, content in (("a/layer.tar", LARGE), ("a/json", b"{}"), ("a/layer.tar", LARGE)):
        digest = await place.archives.extract(index, found[name], place.directory / "copy")
        assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert await place.files.read(place.directory / "copy") == content
        with pytest.raises(AlreadyExists):
            await place.archives.extract(index, found[name], place.directory / "copy")
        await place.files.remove_tree(place.directory / "copy")
    longer = replace(found["a/layer.tar"], size=len(SAVED))
    with pytest.raises(InvalidInput):
        await place.archives.content(index, longer, 1 << 20)
    with pytest.raises(InvalidInput):
        await place.archives.extract(index, longer, place.directory / "copy")
    assert not await place.files.exists(place.directory / "copy")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (tar(*(member(f"f{number}") for number in range(6))), UnsafeArchive),
        (tar(member("../x")), UnsafeArchive),
        (tar(member("a", LARGE))[:100_000], InvalidInput),
        (tar(member("a", b"x" * 3000))[:2000], InvalidInput),
        (packed(SAVED, "gzip")[:-20], InvalidInput),
        (b"x" * 5000, InvalidInput),
        (b"", InvalidInput),
    ],
    ids=["many", "outside", "truncated", "truncated document", "truncated gzip", "no archive", "empty"],
)
async def test_receiving_what_is_hostile_or_damaged(place: Place, data: bytes, error: type[Exception]) -> None:
    """All of it is read, so that the client reads the error."""
    blocks = arriving(data)
    with pytest.raises(error):
        await place.archives.receive(blocks, place.directory, most=5)
    assert [block async for block in blocks] == []


async def test_receiving_ends_with_its_client(place: Place) -> None:
    async def interrupted() -> AsyncIterator[bytes]:
        yield SAVED[:100_000]
        raise InvalidInput("The body ended early or is malformed")

    with pytest.raises(InvalidInput, match="ended early"):
        await place.archives.receive(interrupted(), place.directory)


async def test_the_digest_of_an_archive_that_is_not_compressed_can_be_left_out(place: Place) -> None:
    expected = f"sha256:{hashlib.sha256(TREE).hexdigest()}"
    assert (await place.unpack(TREE)).diff_id == expected
    for kind, diff_id in (("none", ""), ("gzip", expected)):
        await place.files.write(place.directory / kind, packed(TREE, kind))
        await place.files.make_directory(place.directory / f"{kind}-root")
        report = await place.archives.unpack(place.directory / kind, place.directory / f"{kind}-root", digest=False)
        assert report.diff_id == diff_id
