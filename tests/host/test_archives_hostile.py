"""Hostile archives and the real unpacker: each is refused or contained."""

import asyncio
import gzip
import hashlib
import os
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest
from archive_readers import eventually, readers
from tars import directory, hard_link, member, raw_header, symlink, tar

from isola.errors import HostFailure, InvalidInput, IsolaError, UnsafeArchive
from isola.host.archive.archives import LinuxArchives, UnpackLimits, UnpackReport
from isola.host.files import LinuxFiles
from isola.host.process import LinuxProcesses


class Cell:
    """A target with files around it that must not change."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.target = place / "outer" / "target"
        self.target.mkdir(parents=True)
        for beside in (place / "secret", place / "outer" / "secret"):
            beside.write_text("untouched")
        self.archives = LinuxArchives(LinuxProcesses())

    async def unpack(self, data: bytes, **options: object) -> UnpackReport:
        source = self.place / "archive"
        await asyncio.to_thread(source.write_bytes, data)
        return await self.archives.unpack(source, self.target, **options)  # type: ignore[arg-type]

    def assert_untouched(self) -> None:
        assert sorted(os.listdir(self.place)) in (["archive", "outer", "secret"], ["outer", "secret"])
        assert sorted(os.listdir(self.place / "outer")) == ["secret", "target"]
        for beside in (self.place / "secret", self.place / "outer" / "secret"):
            assert beside.read_text() == "untouched"


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    shut = Cell(tmp_path)
    etc = _picture("/etc")
    yield shut
    try:
        shut.assert_untouched()
        assert _picture("/etc") == etc
    finally:
        await LinuxFiles().remove_tree(shut.target)  # too deep for pytest to remove


def _picture(directory: str) -> list[tuple[str, int]]:
    return sorted((entry.name, entry.stat(follow_symlinks=False).st_mtime_ns) for entry in os.scandir(directory))


T = TypeVar("T")


async def run(*argv: str | Path) -> "subprocess.CompletedProcess[bytes]":
    """Run a program, which must succeed."""
    return await asyncio.to_thread(lambda: subprocess.run(argv, capture_output=True, check=True))


OUT = "../../../../../../../../../../../../"


@pytest.mark.parametrize(
    "data",
    [
        tar(member(OUT + "etc/isola-was-here", b"x")),
        tar(member("ok/" + OUT + "secret", b"x")),
        tar(symlink("l", OUT + "etc"), member("l/isola-was-here", b"x")),
        tar(symlink("l", "/etc"), member("l/isola-was-here", b"x")),
        tar(symlink("a", "b"), symlink("b", "/"), member("a/secret", b"x")),
        tar(directory("d"), symlink("d/up", ".."), symlink("d/up/up2", "../.."), member("d/up/up2/secret", b"x")),
        tar(symlink("l", "."), symlink("l/m", ".."), member("l/m/secret", b"x")),
        tar(hard_link("h", OUT + "etc/shadow")),
        tar(directory("d"), member("d/f"), symlink("d", OUT)),
        tar(member("x/..", b"1")),
    ],
)  # fmt: skip
async def test_attempts_to_write_outside_are_refused(cell: Cell, data: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        await cell.unpack(data)


async def test_symlinks_to_the_outside_are_kept_and_never_followed(cell: Cell) -> None:
    """Root file systems contain many absolute symlinks; a later file replaces the symlink, not its target."""
    await cell.unpack(
        tar(symlink("l", OUT + "secret"), symlink("m", "/secret"), symlink("n", "m"), member("l", b"new"))
    )
    assert (cell.target / "l").read_bytes() == b"new"
    assert os.readlink(cell.target / "m") == "/secret"


async def test_a_hard_link_to_a_symlink_links_the_symlink(cell: Cell) -> None:
    await cell.unpack(tar(symlink("l", "/etc/passwd"), hard_link("h", "l"), member("h", b"new")))
    assert os.readlink(cell.target / "l") == "/etc/passwd"
    assert (cell.target / "h").read_bytes() == b"new"


async def test_writing_to_one_name_of_a_hard_link_leaves_the_other(cell: Cell) -> None:
    await cell.unpack(tar(member("a", b"old"), hard_link("b", "a"), member("b", b"new")))
    assert (cell.target / "a").read_bytes() == b"old"


async def test_a_parent_replaced_by_a_symlink_is_checked_again(cell: Cell) -> None:
    """The directory is kept open for the next entry, but not after its replacement."""
    with pytest.raises(UnsafeArchive):
        await cell.unpack(tar(directory("d"), directory("d/e"), symlink("d/e", "/"), member("d/e/secret", b"x")))
    with pytest.raises(UnsafeArchive):
        await cell.unpack(tar(symlink("s", "t"), directory("t"), member("s/a"), symlink("s", OUT), member("s/b")))


async def test_unusual_names_stay_inside(cell: Cell) -> None:
    names = ["new\nline", "tab\t", "\x1b[31mred", "-rf", " ", "\udcff\udcfe", "..x", "...", "a" * 255, "~", "C:\\x"]
    await cell.unpack(tar(*(member(name, b"x") for name in names)))
    assert sorted(os.listdir(cell.target)) == sorted(names)


async def test_a_nul_in_a_name_is_refused(cell: Cell) -> None:
    body = b"18 path=ok\0../x" + b"12\n"
    extended = raw_header(size=b"%011o" % len(body), kind=b"x") + body.ljust(512, b"\0")
    with pytest.raises((UnsafeArchive, InvalidInput)):
        await cell.unpack(extended + raw_header() + bytes(1024))


@pytest.mark.parametrize(
    "data",
    [
        raw_header(size=b"\x80" + b"\x7f" * 11),
        raw_header(size=b"\xff" * 12),
        raw_header(size=b"-0000000001"),
        raw_header(size=b"77777777777"),
        raw_header(size=b"99999999999"),
        raw_header(uid=b"\x80\0\0\xff\xff\xff\xff\xff"),
        raw_header(kind=b"x", size=b"%011o" % 512) + b"9" * 512,
        raw_header(kind=b"x", size=b"%011o" % 512) + b"0 a=b\n".ljust(512, b"\0"),
        raw_header(kind=b"x", size=b"%011o" % 512) + b"999 path=x\n".ljust(512, b"\0"),
        raw_header(kind=b"x", size=b"%011o" % 10) + b"10 size=-\n".ljust(512, b"\0") + raw_header(),
        raw_header(kind=b"x", size=b"%011o" % 0),
        raw_header(kind=b"S", tail=b"\1"),
        raw_header(kind=b"S", sparse=b"77777777777\0" * 8, tail=b"\0" + b"00000000001\0"),
        raw_header(name=b"a" * 100 + b"", kind=b"2", link=b"") ,
    ],
)  # fmt: skip
async def test_malformed_headers_are_invalid(cell: Cell, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        await cell.unpack(data)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
async def test_gigantic_extended_headers_are_refused_unread(cell: Cell, kind: bytes) -> None:
    with pytest.raises(UnsafeArchive, match="too large"):
        await cell.unpack(raw_header(kind=kind, size=b"%011o" % (4 << 30)))


async def test_endless_extended_headers_are_limited(cell: Cell) -> None:
    chain = (raw_header(kind=b"L", size=b"%011o" % 512) + b"x" * 512) * 4000
    with pytest.raises(IsolaError):
        await cell.unpack(chain)


_ZEROS = gzip.compress(bytes(1 << 20), 9)
"""A mebibyte in a kilobyte; several may follow each other."""


async def test_two_gibibytes_of_zeros_are_refused(cell: Cell) -> None:
    """In 2 MiB: the ratio stops it, long before a limit on bytes does."""
    bomb = _bomb(2 << 30)
    assert len(bomb) < 3 << 20
    with pytest.raises(UnsafeArchive, match=r"bomb|too large when unpacked"):
        await cell.unpack(bomb)


def _bomb(size: int) -> bytes:
    """gzip members of zeros; the tar header says one large file."""
    header = raw_header(name=b"zeros", size=b"\x80" + size.to_bytes(11, "big"))
    return gzip.compress(header) + _ZEROS * (size >> 20)


async def test_a_bomb_after_the_end_of_the_archive_is_refused(cell: Cell) -> None:
    data = gzip.compress(tar(member("a", b"x"))) + _ZEROS * 1280
    with pytest.raises(UnsafeArchive):
        await cell.unpack(data, limits=UnpackLimits(bytes=1 << 20))


async def test_a_zstd_bomb_in_one_block_is_refused(cell: Cell) -> None:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    blocks = [compressor.compress(raw_header(name=b"z", size=b"\x80" + (17 << 26).to_bytes(11, "big")))]
    zeros = bytes(64 << 20)
    for _ in range(17):
        blocks.append(await asyncio.to_thread(compressor.compress, zeros))
    with pytest.raises(UnsafeArchive):
        await cell.unpack(b"".join([*blocks, compressor.flush()]))


async def test_sparse_files_of_huge_size_are_refused(cell: Cell) -> None:
    data = raw_header(kind=b"S", name=b"s", tail=b"\0" + b"\x80" + (1 << 50).to_bytes(11, "big"))
    with pytest.raises(UnsafeArchive, match="too large when unpacked"):
        await cell.unpack(data + bytes(1024))


async def test_sparse_files_of_all_formats_are_unpacked_sparse(
    cell: Cell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("sparse")
    with (source / "s").open("wb") as file:
        for place in (1 << 20, 9 << 20, 40 << 20):
            file.seek(place)
            file.write(os.urandom(5000))
        file.truncate(64 << 20)
    wanted = hashlib.sha256((source / "s").read_bytes()).hexdigest()
    for options in (
        ["--format=gnu"],
        ["--format=pax"],
        *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1")),
    ):
        command: list[str | Path] = ["tar", "-S", *options, "-C", source, "-cf", "-", "s"]
        made = (await run(*command)).stdout
        assert len(made) < 1 << 20
        await cell.unpack(made)
        found = cell.target / "s"
        assert hashlib.sha256(found.read_bytes()).hexdigest() == wanted, options
        assert found.stat().st_blocks * 512 < 1 << 20


async def test_only_harmless_attributes_are_set(cell: Cell) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    attributes = {
        "user.note": b"kept",
        "user.overlay.opaque": b"y",
        "security.capability": capability,
        "security.selinux": b"x",
        "trusted.overlay.redirect": b"/etc",
        "trusted.overlay.opaque": b"y",
        "trusted.overlay.metacopy": b"",
    }
    headers = {f"SCHILY.xattr.{key}": value.decode("latin-1") for key, value in attributes.items()}
    await cell.unpack(tar(member("f", b"x", pax_headers=headers, mode=0o755), directory("d", pax_headers=headers)))
    for name in ("f", "d"):
        if name == "f":
            assert sorted(os.listxattr(cell.target / name)) == ["security.capability", "user.note"]
            assert os.getxattr(cell.target / name, "security.capability") == capability
        assert not [key for key in os.listxattr(cell.target / name) if key.startswith("trusted.")]


async def test_attributes_survive_packing(cell: Cell) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1"), "SCHILY.xattr.user.a": "b=c\nd"}
    await cell.unpack(tar(member("ping", b"x", pax_headers=headers)))
    again = cell.place.parent / "again"
    await cell.archives.pack(cell.target, again)
    shutil.rmtree(cell.target)
    cell.target.mkdir()
    await cell.archives.unpack(again, cell.target)
    again.unlink()
    assert os.getxattr(cell.target / "ping", "security.capability") == capability
    assert os.getxattr(cell.target / "ping", "user.a") == b"b=c\nd"


async def test_whiteouts_are_those_of_overlay(cell: Cell) -> None:
    await cell.unpack(
        tar(
            directory("d"),
            member("d/.wh..wh..opq"),
            member(".wh.gone"),
            directory("both"),
            member(".wh.both"),
            member(".wh.back"),
            member("back", b"x"),
            member(".wh.tree"),
            directory("tree"),
            member(".wh..wh.plnk"),
            member(".wh..."),
            member(".wh.."),
        ),
        whiteouts=True,
    )
    gone = os.lstat(cell.target / "gone")
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    for name in ("d", "both", "tree"):
        assert os.getxattr(cell.target / name, "trusted.overlay.opaque") == b"y"
    assert (cell.target / "back").read_bytes() == b"x"
    assert sorted(os.listdir(cell.target)) == sorted(["d", "gone", "both", "back", "tree"])


async def test_times_are_kept_even_of_directories(cell: Cell) -> None:
    await cell.unpack(
        tar(
            directory("d", mtime=1_000_000_000),
            member("d/f", b"x", mtime=1_100_000_000),
            symlink("d/l", "f", mtime=1_200_000_000),
            member("old", mtime=-5),
            member("late", mtime=2**60),
        )
    )
    times = [os.lstat(cell.target / name).st_mtime for name in ("d", "d/f", "d/l", "old")]
    assert times == [1_000_000_000, 1_100_000_000, 1_200_000_000, -5]


async def test_deep_trees_are_unpacked_or_refused(cell: Cell) -> None:
    with pytest.raises(InvalidInput):
        await cell.unpack(tar(member("d/" * 3000 + "f", b"x")))
    await cell.unpack(tar(member("e/" * 1000 + "f", b"x")))


async def test_many_replacements_keep_no_descriptors(cell: Cell) -> None:
    entries = []
    for number in range(3000):
        entries += [member(f"d{number % 200}/f", b"x"), member(f"d{number % 200}/f", b"y")]
    report = await cell.unpack(tar(*entries))
    assert report.entries == 6000


async def test_squashfs_images_are_unpacked(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("squashfs")
    (source / "root" / "etc").mkdir(parents=True)
    (source / "root" / "etc" / "f").write_text("hello")
    os.chown(source / "root" / "etc" / "f", 7, 8)
    os.mknod(source / "root" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    image = source / "image"
    await run("gensquashfs", "-q", "-k", "-D", source / "root", image)
    report = await cell.unpack(image.read_bytes())
    assert (cell.target / "etc" / "f").read_text() == "hello"
    assert (cell.target / "etc" / "f").stat().st_uid == 7
    assert [name.strip("./") for name in report.skipped] == ["null"]
    with pytest.raises(InvalidInput):
        await cell.unpack(image.read_bytes()[:200] + bytes(4000))


async def test_a_full_file_system_is_a_failure_of_the_host(
    cell: Cell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = tmp_path_factory.mktemp("small")
    await run("mount", "-t", "tmpfs", "-o", "size=1m", "small", small)
    try:
        source = cell.place / "archive"
        source.write_bytes(tar(member("f", os.urandom(4 << 20))))
        with pytest.raises(HostFailure, match="full"):
            await cell.archives.unpack(source, small)
    finally:
        await run("umount", small)


@pytest.fixture
async def long_work(cell: Cell) -> AsyncIterator[tuple[asyncio.Task[UnpackReport], int]]:
    """A running unpack of 40 GiB of zeros, and its process; both end with the block."""
    source = cell.place / "archive"
    with source.open("wb") as file:
        file.write(raw_header(name=b"f", size=b"\x80" + (40 << 30).to_bytes(11, "big")))
        file.truncate(40 << 30)
    work = asyncio.create_task(cell.archives.unpack(source, cell.target))
    (pid,) = await eventually(lambda: [p for p in readers(source) if _threads(p) > 1])  # confined, and running
    yield work, pid
    work.cancel()
    await asyncio.wait([work])
    assert not readers(source)


async def test_a_cancelled_unpacking_leaves_no_process(long_work: tuple[asyncio.Task[UnpackReport], int]) -> None:
    work, pid = long_work
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert str(pid) not in os.listdir("/proc") or _status(pid)["State"].startswith("Z")  # its parent has ended too


async def test_the_unpacker_is_confined(cell: Cell, long_work: tuple[asyncio.Task[UnpackReport], int]) -> None:
    """It runs in its own namespaces with the target only, and its ids are of no user of the host."""
    _, pid = long_work
    status = _status(pid)
    allowed = sum(1 << number for number in (0, 1, 3, 4, 31))
    assert [int(status[key], 16) & ~allowed for key in ("CapPrm", "CapEff", "CapBnd", "CapInh")] == [0, 0, 0, 0]
    assert set(status["Uid"].split() + status["Gid"].split()) == {str(1 << 31)}
    assert status["Groups"].split() == []
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for space in ("pid", "mnt", "net", "ipc", "uts", "cgroup", "user"):
        assert os.readlink(f"/proc/{pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}"), space
    (mount,) = _text(f"/proc/{pid}/mountinfo").splitlines()
    assert {"nosuid", "nodev", "noexec", "idmapped"} <= set(re.split("[ ,]", mount))
    assert len(os.listdir(f"/proc/{pid}/fd")) < 10


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in _text(f"/proc/{pid}/status").splitlines())


def _text(path: str) -> str:
    return Path(path).read_text()


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
