"""The contract of instances' roots for open files: single requests, as in SFTP."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from descriptors import closed_since, descriptors
from files_root import IDS, content
from native_agent import AgentFiles

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound, Unsupported
from isola.host.files import Access, Changes, Entry, Files, LinuxFiles, Root
from isola.testing.files import FakeFiles

KINDS: dict[str, type[Files]] = {"fake": FakeFiles, "linux": LinuxFiles, "agent": AgentFiles}
"""The agent serves roots of guests with their own kernel."""


@pytest.fixture(params=KINDS)
async def files(request: pytest.FixtureRequest) -> Files:
    return KINDS[request.param]()


NEW = Access(read=True, write=True, create=True)
READ = Access(read=True)


async def put(root: Root, path: str, data: bytes = b"data") -> None:
    file = await root.open(path, NEW)
    await file.write(0, data)
    await file.close()


async def listing(root: Root, path: str) -> dict[str, Entry]:
    return {name: entry async for piece in await root.entries(path) for name, entry in piece}


async def test_a_new_file_has_random_access_and_belongs_to_root_inside(root: Root) -> None:
    file = await root.open("/f", NEW, mode=0o640)
    await file.write(3, b"def")
    await file.write(0, b"abc")
    assert (await file.read(1, 3), await file.read(6, 100)) == (b"bcd", b"")
    entry = await file.stat()
    assert (entry.kind, entry.mode, entry.uid, entry.gid, entry.size) == ("file", 0o640, 0, 0, 6)
    assert stat.S_ISREG(entry.format)
    await file.sync()
    assert (await file.space()).f_bsize > 0
    await file.close()
    await file.close()
    assert await content(root, "/f") == b"abcdef"


async def test_flags_of_open_determine_the_content(root: Root) -> None:
    await put(root, "/f", b"0123456789")
    file = await root.open("/f", Access(write=True, append=True))
    await file.write(0, b"end")
    await file.close()
    assert await content(root, "/f") == b"0123456789end"
    file = await root.open("/f", Access(write=True, create=True, truncate=True))
    await file.close()
    assert await content(root, "/f") == b""
    with pytest.raises(InvalidInput, match="exists"):
        await root.open("/f", Access(write=True, create=True, exclusive=True))
    with pytest.raises(NotFound):
        await root.open("/g", Access(write=True))
    for access, use in ((READ, "write"), (Access(write=True), "read")):
        file = await root.open("/f", access)
        with pytest.raises(HostFailure):
            await (file.write(0, b"x") if use == "write" else file.read(0, 1))
        await file.close()


async def test_directories_are_opened_for_stat_only(root: Root) -> None:
    file = await root.open("/", READ)
    assert (await file.stat()).kind == "directory"
    for refused in (file.read(0, 10), file.write(0, b"x"), root.open("/", Access(write=True)), root.open("/", NEW)):
        with pytest.raises(IsolaError):
            await refused
    await file.close()


async def test_offsets_beyond_all_files_are_refused(root: Root) -> None:
    file = await root.open("/f", NEW)
    for offset in (2**63 - 1, 2**64 - 1):
        with pytest.raises(IsolaError):
            await file.write(offset, b"x")
    assert (await file.stat()).size == 0
    await file.close()


@pytest.mark.parametrize("path", ["/up/secret", "/up", "/abs", "/../secret", "/dir/../../secret"])
@pytest.mark.parametrize("access", [READ, NEW, Access(write=True, create=True, truncate=True)])
async def test_symlinks_do_not_leave_the_root(root: Root, files: Files, place: Path, path: str, access: Access) -> None:
    await root.create_directory("/dir", mode=0o755)
    await root.create_symlink("/up", "../../../..")
    await root.create_symlink("/abs", str(place / "secret"))
    try:
        file = await root.open(path, access)
        await file.write(0, b"inside")
        await file.close()
    except IsolaError:
        pass
    assert await files.read(place / "secret") == b"outside"
    assert await files.names(place) == ("root", "secret")


async def test_links_are_read_unchanged_and_dangling_ones_not_created_through(root: Root) -> None:
    await root.create_symlink("/l", "no/where")
    assert await root.target("/l") == "no/where"
    with pytest.raises(InvalidInput):
        await root.create_symlink("/l", "no/where")
    with pytest.raises(IsolaError):
        await root.open("/l", NEW)
    await put(root, "/f")
    with pytest.raises(InvalidInput):
        await root.target("/f")
    with pytest.raises(NotFound):
        await root.target("/nothing")


async def test_directories_are_created_once_and_listed_with_attributes(root: Root) -> None:
    await root.create_directory("/d", mode=0o750)
    with pytest.raises(InvalidInput):
        await root.create_directory("/d", mode=0o750)
    await put(root, "/d/f", b"four")
    await root.create_symlink("/d/l", "f")
    await root.create_directory("/d/d", mode=0o700)
    found = await listing(root, "/d")
    assert {name: (entry.kind, entry.uid) for name, entry in found.items()} == {
        "f": ("file", 0), "l": ("symlink", 0), "d": ("directory", 0),
    }  # fmt: skip
    assert (found["f"].size, found["d"].mode, (await root.stat("/d")).mode) == (4, 0o700, 0o750)
    assert await listing(root, "/d/d") == {}
    with pytest.raises(NotFound):
        await root.entries("/none")
    with pytest.raises(InvalidInput):
        await root.entries("/d/f")


async def test_many_names_are_returned_in_blocks(root: Root) -> None:
    for number in range(300):
        await root.create_symlink(f"/{number}", "x")
    pieces = [len(piece) async for piece in await root.entries("/")]
    assert sum(pieces) == 300


async def test_only_given_attributes_are_set(root: Root) -> None:
    await put(root, "/f", b"content")
    await root.change("/f", Changes(mode=0o4755, uid=1000, gid=100, modified=1_000_000, accessed=2_000_000))
    entry = await root.stat("/f")
    assert (entry.mode, entry.uid, entry.gid, entry.modified, entry.size) == (0o4755, 1000, 100, 1_000_000, 7)
    assert entry.accessed == 2_000_000
    await root.change("/f", Changes(size=3))
    assert (await content(root, "/f"), (await root.stat("/f")).uid) == (b"con", 1000)
    await root.change("/f", Changes(modified=5))
    file = await root.open("/f", Access(read=True, write=True))
    await file.change(Changes(size=5, uid=7))
    assert (await file.stat()).uid == 7 and await content(root, "/f") == b"con\0\0"
    await file.close()
    with pytest.raises(IsolaError):
        await root.change("/", Changes(size=0))
    with pytest.raises(NotFound):
        await root.change("/none", Changes(mode=0))


async def test_the_owner_of_a_link_is_set_without_following_it(root: Root) -> None:
    await put(root, "/f")
    await root.create_symlink("/l", "f")
    await root.change("/l", Changes(uid=5, gid=6), follow=False)
    assert ((await root.stat("/l", follow=False)).uid, (await root.stat("/f")).uid) == (5, 0)
    await root.change("/l", Changes(uid=9))
    assert ((await root.stat("/l", follow=False)).uid, (await root.stat("/f")).uid) == (5, 9)


async def test_ids_outside_the_range_become_65534(root: Root) -> None:
    await put(root, "/f")
    await root.change("/f", Changes(uid=2**32 - 2, gid=2**31))
    entry = await root.stat("/f")
    assert (entry.uid, entry.gid) == (65534, 65534)


async def test_names_are_renamed_and_replaced_only_on_request(root: Root) -> None:
    await put(root, "/a", b"a")
    await put(root, "/b", b"b")
    with pytest.raises(InvalidInput, match="exists"):
        await root.rename("/a", "/b", replace=False)
    await root.rename("/a", "/c", replace=False)
    await root.rename("/c", "/b", replace=True)
    assert await content(root, "/b") == b"a" and set(await listing(root, "/")) == {"b"}
    with pytest.raises(NotFound):
        await root.rename("/none", "/x", replace=True)
    with pytest.raises(InvalidInput):
        await root.rename("/", "/x", replace=True)
    await root.create_symlink("/up", "..")
    await root.rename("/b", "/up/moved", replace=True)
    assert set(await listing(root, "/")) == {"up", "moved"}, "the root's parent is the root"


async def test_a_hard_link_is_the_same_file(root: Root) -> None:
    await put(root, "/a", b"a")
    await root.link("/a", "/b")
    file = await root.open("/b", Access(write=True))
    await file.write(0, b"c")
    await file.close()
    assert await content(root, "/a") == b"c"
    with pytest.raises(InvalidInput, match="exists"):
        await root.link("/a", "/b")
    with pytest.raises(NotFound):
        await root.link("/none", "/c")
    await root.create_directory("/d", mode=0o755)
    with pytest.raises(IsolaError):
        await root.link("/d", "/e")


async def test_files_and_directories_are_removed_only_as_such(root: Root) -> None:
    await put(root, "/f")
    await root.create_directory("/d", mode=0o755)
    with pytest.raises(InvalidInput):
        await root.remove("/f", files=False)
    with pytest.raises(InvalidInput):
        await root.remove("/d", directories=False)
    await root.remove("/f", directories=False)
    await root.remove("/d", files=False)
    assert await listing(root, "/") == {}


async def test_space_of_the_file_system_is_returned(root: Root) -> None:
    found = await root.space("/")
    assert found.f_blocks >= found.f_bfree > 0
    with pytest.raises(NotFound):
        await root.space("/none")


async def test_open_files_are_closed_with_the_root(files: Files, place: Path) -> None:
    if isinstance(files, FakeFiles):
        return
    await files.make_directory(place / "root", owner=IDS.base)
    before = descriptors()
    async with files.root(place / "root", idmap=IDS) as root:
        file = await root.open("/f", NEW)
    await closed_since(before)
    await file.close()


async def test_special_files_are_not_opened_but_listed(files: Files, place: Path) -> None:
    if isinstance(files, FakeFiles):
        return
    await files.make_directory(place / "root")
    os.mkfifo(place / "root" / "fifo")
    (place / "root" / os.fsdecode(b"\xff\xfe")).write_bytes(b"bytes")
    async with files.root(place / "root") as root:
        for access in (READ, NEW):
            with pytest.raises(Unsupported):
                await root.open("/fifo", access)
        found = await listing(root, "/")
        assert found["fifo"].kind == "other" and stat.S_ISFIFO(found["fifo"].format)
        assert await content(root, os.fsdecode(b"/\xff\xfe")) == b"bytes" and os.fsdecode(b"\xff\xfe") in found
