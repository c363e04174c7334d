"""The contract of file systems for roots of instances."""

import asyncio
import hashlib
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from descriptors import closed_since, descriptors
from files_root import IDS, broken, content, itself, names, put, stream
from native_agent import AgentFiles

from isola.errors import InvalidInput, NotFound, Unsupported, WrongState
from isola.host import trees
from isola.host.files import Files, LinuxFiles, Root
from isola.host.proc import ProcessRef
from isola.testing.files import FakeFiles

KINDS: dict[str, type[Files]] = {"fake": FakeFiles, "linux": LinuxFiles, "agent": AgentFiles}
"""The agent serves roots of guests with their own kernel."""


@pytest.fixture(params=KINDS)
async def files(request: pytest.FixtureRequest) -> Files:
    return KINDS[request.param]()


# --- roots -----------------------------------------------------------------------------------------------------


async def test_a_root_must_exist(files: Files, place: Path) -> None:
    with pytest.raises(NotFound):
        async with files.root(place / "nothing"):
            pass


async def test_ids_are_shifted_both_ways(files: Files, place: Path, root: Root) -> None:
    await root.write("/f", stream(b"x"), uid=5, gid=6, mode=0o640)
    entry = await root.stat("/f")
    assert (entry.kind, entry.uid, entry.gid, entry.mode, entry.size) == ("file", 5, 6, 0o640, 1)
    async with files.root(place / "root") as raw:
        assert (await raw.stat("/f")).uid == IDS.base + 5
    async with files.root(place) as above:
        assert (await above.stat("secret")).uid == 0
    async with files.root(place, idmap=IDS) as above:
        assert (await above.stat("secret")).uid == 65534


async def test_files_have_a_modification_time(root: Root) -> None:
    before = int(time.time()) - 1  # the kernel's coarse clock for files lags by a tick
    await root.write("/f", stream(b"x"), uid=0, gid=0, mode=None)
    assert before <= (await root.stat("/f")).modified <= time.time()
    await root.make_directory("/d", uid=0, gid=0, mode=0o700)
    assert before <= (await root.stat("/d")).modified <= time.time()


async def test_content_is_returned_in_blocks(root: Root) -> None:
    data = os.urandom(1_000_000)
    await root.write("/f", stream(data[:7], data[7:]), uid=0, gid=0, mode=None)
    blocks = [block async for block in await root.read("f")]
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 256 * 1024


async def test_an_existing_file_keeps_mode_and_owner_unless_given(root: Root) -> None:
    await root.write("/f", stream(b"long content"), uid=5, gid=6, mode=0o4755)
    await root.write("/f", stream(b"short"), uid=-1, gid=-1, mode=None)
    entry = await root.stat("/f")
    assert (entry.uid, entry.gid, entry.mode & 0o777) == (5, 6, 0o755)
    assert await content(root, "/f") == b"short"
    await root.write("/f", stream(b"er"), uid=7, gid=-1, mode=0o600, append=True)
    entry = await root.stat("/f")
    assert (entry.uid, entry.gid, entry.mode) == (7, 6, 0o600)
    assert await content(root, "/f") == b"shorter"


async def test_defaults_of_a_new_file(root: Root, umask: None) -> None:
    await root.write("/f", stream(b""), uid=-1, gid=-1, mode=None)
    entry = await root.stat("/f")
    assert (entry.uid, entry.gid, entry.mode) == (0, 0, 0o644)


async def test_setuid_is_kept(root: Root) -> None:
    await root.write("/f", stream(b""), uid=1, gid=1, mode=0o4755)
    assert (await root.stat("/f")).mode == 0o4755


async def test_an_interrupted_new_file_does_not_exist(root: Root) -> None:
    with pytest.raises(ConnectionError):
        await root.write("/f", broken(), uid=0, gid=0, mode=None)
    assert await names(root, "/") == ()


@pytest.mark.parametrize("append", [False, True])
async def test_an_interrupted_write_leaves_the_file_unchanged(root: Root, append: bool) -> None:
    await root.write("/f", stream(b"whole"), uid=5, gid=6, mode=0o640)
    with pytest.raises(ConnectionError):
        await root.write("/f", broken(), uid=0, gid=0, mode=0o600, append=append)
    entry = await root.stat("/f")
    assert (entry.uid, entry.gid, entry.mode) == (5, 6, 0o640)
    assert await content(root, "/f") == b"whole"
    assert await names(root, "/") == ("f",)


async def test_appending_creates_a_missing_file(root: Root) -> None:
    await root.write("/f", stream(b"a", b"b"), uid=-1, gid=-1, mode=None, append=True)
    assert await content(root, "/f") == b"ab"


async def test_a_file_is_written_through_a_symlink(root: Root) -> None:
    await root.make_directory("/d", uid=0, gid=0, mode=0o755)
    await put(root, "/d/f", b"old")
    await root.make_symlink("/l", "d/f", uid=0, gid=0)
    await root.write("/l", stream(b"new"), uid=-1, gid=-1, mode=None)
    assert (await root.stat("/l", follow=False)).kind == "symlink"
    assert await content(root, "/d/f") == b"new"
    assert (await names(root, "/"), await names(root, "/d")) == (("d", "l"), ("f",))


async def test_many_names_are_returned_in_blocks(files: Files, place: Path) -> None:
    for number in range(9000):
        if isinstance(files, FakeFiles):
            await files.write(place / f"{number:05}", b"")
        else:
            os.close(os.open(place / f"{number:05}", os.O_CREAT))
    async with files.root(place) as root:
        pieces = [piece async for piece in await root.names("/")]
        assert max(map(len, pieces)) <= 4096 and sum(map(len, pieces)) == 9000
        assert sorted(name for piece in pieces for name in piece) == [f"{number:05}" for number in range(9000)]
        assert all(list(piece) == sorted(piece) for piece in pieces)
        for what in ("/nothing", "/00000"):
            with pytest.raises((NotFound, InvalidInput)):
                await root.names(what)


async def test_concurrent_writes_leave_one_of_the_contents(root: Root) -> None:
    await put(root, "/f")
    for target in ("/f", "/new"):
        await asyncio.gather(*(put(root, target, bytes([letter]) * 100_000) for letter in b"abcdefgh"))
        found = await content(root, target)
        assert len(found) == 100_000 and len(set(found)) == 1
    assert await names(root, "/") == ("f", "new")


async def test_directories_and_their_names(root: Root, umask: None) -> None:
    await root.make_directory("/d", uid=3, gid=4, mode=0o1777)
    await root.make_directory("/d", uid=9, gid=9, mode=0o700)
    await put(root, "/d/b")
    await put(root, "/d/a")
    entry = await root.stat("/d")
    assert (entry.kind, entry.uid, entry.gid, entry.mode) == ("directory", 3, 4, 0o1777)
    assert await names(root, "/d") == ("a", "b")


async def test_links_are_made_and_shown(root: Root) -> None:
    await put(root, "/f", b"hello")
    await root.make_symlink("/l", "/f", uid=1, gid=2)
    entry = await root.stat("/l", follow=False)
    assert (entry.kind, entry.target, entry.uid, entry.gid) == ("symlink", "/f", 1, 2)
    assert (await root.stat("/l")).kind == "file"
    assert await content(root, "/l") == b"hello"
    await root.make_symlink("/l", "/f", uid=7, gid=7)
    assert (await root.stat("/l", follow=False)).uid == 1
    for target in ("elsewhere", "f"):
        with pytest.raises(InvalidInput):
            await root.make_symlink("/l", target, uid=0, gid=0)
    with pytest.raises(InvalidInput):
        await root.make_symlink("/f", "/f", uid=0, gid=0)


@pytest.mark.parametrize("target", ["/secret", "../secret", "../../../../../../secret", "/../secret"])
async def test_symlinks_are_resolved_inside(files: Files, place: Path, root: Root, target: str) -> None:
    await root.make_symlink("/l", target, uid=0, gid=0)
    with pytest.raises(NotFound):
        await root.read("/l")
    with pytest.raises((NotFound, InvalidInput)):
        await put(root, "/l", b"overwritten")
    assert await files.read(place / "secret") == b"outside"


@pytest.mark.parametrize("path", ["../secret", "/../../secret", "d/../../secret"])
async def test_dots_are_resolved_inside(files: Files, place: Path, root: Root, path: str) -> None:
    await root.make_directory("/d", uid=0, gid=0, mode=0o755)
    with pytest.raises(NotFound):
        await root.read(path)
    await put(root, path, b"inside")
    assert await files.read(place / "secret") == b"outside"
    assert await content(root, "/secret") == b"inside"


async def test_symlinked_directories_are_resolved_inside(files: Files, place: Path, root: Root) -> None:
    await root.make_symlink("/d", "/", uid=0, gid=0)
    await put(root, "/d/../d/f")
    assert await files.exists(place / "root" / "f")
    await root.remove("/d/f")
    assert not await files.exists(place / "root" / "f")


async def test_symlink_loops_are_refused(root: Root) -> None:
    await root.make_symlink("/a", "b", uid=0, gid=0)
    await root.make_symlink("/b", "a", uid=0, gid=0)
    with pytest.raises(InvalidInput):
        await root.read("/a")


async def test_removing(root: Root) -> None:
    await root.make_directory("/d", uid=0, gid=0, mode=0o755)
    await put(root, "/d/f")
    with pytest.raises(InvalidInput):
        await root.remove("/d")
    await root.remove("/d/f")
    await root.remove("/d")
    with pytest.raises(NotFound):
        await root.remove("/d")


async def test_removing_a_link_removes_the_link(root: Root) -> None:
    await put(root, "/f")
    await root.make_symlink("/l", "f", uid=0, gid=0)
    await root.remove("/l")
    assert await names(root, "/") == ("f",)


@pytest.mark.parametrize("path", ["/", "", ".", "/..", "a/.."])
async def test_the_root_itself_is_not_a_file(root: Root, path: str) -> None:
    with pytest.raises(InvalidInput):
        await root.remove(path)
    with pytest.raises((InvalidInput, NotFound)):
        await put(root, path)


async def test_wrong_kinds_are_invalid(root: Root) -> None:
    await put(root, "/f")
    await root.make_directory("/d", uid=0, gid=0, mode=0o755)
    for work in (
        root.read("/d"),
        put(root, "/d"),
        put(root, "/f/below"),
        root.stat("/f/below"),
        root.make_directory("/f", uid=0, gid=0, mode=0o755),
        root.stat("/a\0b"),
        root.make_symlink("/l", "a\0b", uid=0, gid=0),
    ):
        with pytest.raises(InvalidInput):
            await work


async def test_missing_files_are_not_found(root: Root) -> None:
    for work in (
        root.stat("/no"),
        root.read("/no"),
        put(root, "/no/f"),
        root.make_directory("/no/d", uid=0, gid=0, mode=0o755),
        root.make_symlink("/no/l", "x", uid=0, gid=0),
    ):
        with pytest.raises(NotFound):
            await work


async def test_names_with_invalid_utf8_are_shown(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    async with LinuxFiles().root(tmp_path) as root:
        assert [name.encode() for name in await names(root, "/")] == ["\ufffd\ufffd".encode()]


async def test_fifos_sockets_and_devices_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "null", 0o020666, os.makedev(1, 3))
    async with LinuxFiles().root(tmp_path) as root:
        for name in ("fifo", "null"):
            assert (await root.stat(name)).kind == "other"
            with pytest.raises(Unsupported):
                await root.read(name)
            with pytest.raises(Unsupported):
                await put(root, name)


async def test_pseudo_file_systems_are_listed_but_not_read() -> None:
    async with LinuxFiles().root(process=itself()) as root:
        assert "uptime" in await names(root, "/proc")
        with pytest.raises(Unsupported):
            await root.read("/proc/uptime")
        with pytest.raises(Unsupported):
            await put(root, "/proc/sys/kernel/core_pattern")
        with pytest.raises(Unsupported):
            await root.make_directory("/sys/kernel/new", uid=0, gid=0, mode=0o755)
        with pytest.raises(InvalidInput):
            await root.read("/proc/self/exe")


async def test_hard_linked_files_are_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"long content")
    os.link(tmp_path / "f", tmp_path / "other")
    async with LinuxFiles().root(tmp_path) as root:
        await put(root, "/f", b"new")
        assert await content(root, "/other") == b"new"
        with pytest.raises(ConnectionError):
            await root.write("/f", broken(), uid=0, gid=0, mode=None)
        assert await content(root, "/other") == b"new"
        assert await names(root, "/") == ("f", "other")


async def test_attributes_of_a_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    os.setxattr(tmp_path / "f", "user.comment", b"kept")
    async with LinuxFiles().root(tmp_path) as root:
        await put(root, "/f", b"new")
    assert os.getxattr(tmp_path / "f", "user.comment") == b"kept"


async def test_leftovers_of_a_killed_daemon_are_removed_by_the_next_push(tmp_path: Path) -> None:
    """A daemon that is killed between the two steps of replacing a file leaves a second name."""
    (tmp_path / "f").write_bytes(b"old")
    async with LinuxFiles().root(tmp_path) as root:
        left = ".isola-" + hashlib.blake2b(b"f", digest_size=12).hexdigest()
        (tmp_path / left).write_bytes(b"left")
        await put(root, "/f", b"new")
        assert await names(root, "/") == ("f",)
        assert await content(root, "/f") == b"new"


async def test_a_process_is_seen_through_its_root() -> None:
    async with LinuxFiles().root(process=itself()) as root:
        assert "etc" in await names(root, "/")


async def test_only_the_identified_process_is_accessed(files: Files, place: Path) -> None:
    """PIDs are reused; the root of the other process is not shown."""
    if isinstance(files, FakeFiles):
        files.process_roots[itself()] = place
    async with files.root(process=itself()) as root:
        assert (await root.stat("/")).kind == "directory"
    for gone in (replace(itself(), started=itself().started - 1), ProcessRef(2**22 - 1, 1)):
        with pytest.raises(WrongState):
            async with files.root(process=gone):
                pass


async def test_hostile_trees_are_removed(tmp_path: Path) -> None:
    """Deeper than the longest path, with symlinks to the outside, unusual names and no permissions."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = tmp_path / "top"
    top.mkdir()
    (top / "a\nb").mkdir(mode=0)
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        os.symlink(outside, "link", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    files = LinuxFiles()
    assert await files.disk_usage(top) >= 2000 * 4096
    open_before = descriptors()
    await files.remove_tree(top)
    assert not top.exists()
    assert (outside / "kept").exists()
    await closed_since(open_before)


async def test_a_link_to_a_tree_is_removed_not_the_tree(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "link").symlink_to("tree")
    await LinuxFiles().remove_tree(tmp_path / "link")
    assert (tmp_path / "tree").is_dir()
    assert not (tmp_path / "link").is_symlink()


async def test_hard_links_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    once = await LinuxFiles().disk_usage(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert await LinuxFiles().disk_usage(tmp_path) == once


async def test_streams_left_open_are_closed_with_the_root(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    before = descriptors()
    async with LinuxFiles().root(tmp_path) as root:
        await root.read("f")
        half_read = await root.read("f")
        assert await anext(half_read) == b"x"
    await closed_since(before)


def test_counting_deep_and_broad_trees_needs_little_memory(tmp_path: Path) -> None:
    """The length of paths grows with depth: they are not stored for each of many directories."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    for number in range(1000):
        os.mkdir(str(number), dir_fd=here)
    os.close(here)
    tracemalloc.start()
    try:
        assert trees.disk_usage(tmp_path) >= 1300 * os.lstat(tmp_path).st_blocks * 512
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
        trees.remove_tree(tmp_path)
