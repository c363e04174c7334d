"""The content store: atomic writes, verification, mark and sweep."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from isola.errors import InvalidInput, NotFound
from isola.host.files import Files
from isola.images.descriptor import Descriptor
from isola.images.store import ContentStore
from isola.state import Intents
from isola.testing.host import FakeHost, fake_host
from isola.testing.store import FakeStore

PLACE = Path("/store")


@pytest.fixture
def host() -> FakeHost:
    return fake_host()


@pytest.fixture
async def store(host: FakeHost) -> ContentStore:
    store = ContentStore(host, PLACE, Intents(FakeStore(host.clock)))
    await store.open()
    return store


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def nothing() -> set[str]:
    return set()


async def test_it_is_an_oci_image_layout(store: ContentStore, host: FakeHost) -> None:
    assert orjson.loads(await host.files.read(PLACE / "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    index = orjson.loads(await host.files.read(PLACE / "index.json"))
    assert index == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }


async def test_blobs_are_stored_by_digest(store: ContentStore, host: FakeHost) -> None:
    stored = await store.intake().put_bytes(b"hello", "text/plain")
    assert stored == Descriptor("text/plain", digest_of(b"hello"), 5)
    assert await host.files.read(PLACE / "blobs/sha256" / stored.digest[7:]) == b"hello"
    assert await store.digests() == (stored.digest,)
    assert await store.read(stored.digest) == b"hello"


async def test_files_are_copied_or_moved(store: ContentStore, host: FakeHost) -> None:
    await host.files.write(PLACE / "scratch/a", b"copied")
    await host.files.write(PLACE / "scratch/b", b"taken")
    intake = store.intake()
    copied = await intake.put_file(PLACE / "scratch/a")
    taken = await intake.put_file(PLACE / "scratch/b", consume=True)
    assert (copied.digest, taken.digest) == (digest_of(b"copied"), digest_of(b"taken"))
    assert (copied.size, taken.size) == (6, 5)
    assert await host.files.names(PLACE / "scratch") == ("a",)


@pytest.mark.parametrize("consume", [False, True])
async def test_a_flipped_byte_is_refused(store: ContentStore, host: FakeHost, consume: bool) -> None:
    await host.files.write(PLACE / "scratch/a", b"hellp")
    with pytest.raises(InvalidInput, match="digest"):
        await store.intake().put_file(PLACE / "scratch/a", consume=consume, expected=digest_of(b"hello"))
    with pytest.raises(InvalidInput, match="digest"):
        await store.intake().put_bytes(b"hellp", "x", expected=digest_of(b"hello"))
    assert await store.digests() == ()
    assert await host.files.names(PLACE / "scratch") == (() if consume else ("a",))


async def test_other_algorithms_have_directories_of_their_own(store: ContentStore, host: FakeHost) -> None:
    expected = "sha512:" + hashlib.sha512(b"hello").hexdigest()
    with pytest.raises(InvalidInput, match="digest"):
        await store.intake().put_bytes(b"hellp", "x", expected=expected)
    intake = store.intake()
    assert (await intake.put_bytes(b"hello", "x", expected=expected)).digest == expected
    assert await host.files.read(PLACE / "blobs/sha512" / expected[7:]) == b"hello"
    await host.files.write(PLACE / "scratch/a", b"from a file")
    other = "sha512:" + hashlib.sha512(b"from a file").hexdigest()
    await intake.put_file(PLACE / "scratch/a", consume=True, expected=other)
    assert set(await store.digests()) == {expected, other}
    intake.close()
    assert await store.sweep(nothing) == 2
    assert await store.digests() == ()


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32])
async def test_invalid_digests_never_become_paths(store: ContentStore, digest: str) -> None:
    with pytest.raises(InvalidInput):
        store.path(digest)


async def test_the_same_content_is_stored_once(store: ContentStore, host: FakeHost) -> None:
    first, second = store.intake(), store.intake()
    assert (await first.put_bytes(b"x", "a")).digest == (await second.put_bytes(b"x", "b")).digest
    assert len(await store.digests()) == 1
    assert await host.files.names(PLACE / "scratch") == ()


async def test_a_document_that_is_there_is_not_written_again(store: ContentStore, host: FakeHost) -> None:
    first = await store.intake().put_bytes(b"x", "a")
    await host.files.remove_tree(PLACE / "scratch")
    second = store.intake()
    assert (await second.put_bytes(b"x", "a")) == first
    with pytest.raises(NotFound):
        await second.put_bytes(b"y", "a")


async def test_the_sweep_removes_unreferenced_blobs(store: ContentStore) -> None:
    intake = store.intake()
    named = (await intake.put_bytes(b"named", "x")).digest
    unnamed = (await intake.put_bytes(b"unnamed", "x")).digest
    intake.close()

    async def names() -> set[str]:
        return {named}

    assert await store.sweep(names) == 1
    assert await store.digests() == (named,)
    with pytest.raises(NotFound):
        await store.read(unnamed)


async def test_the_sweep_keeps_blobs_of_an_open_intake(store: ContentStore) -> None:
    first, second = store.intake(), store.intake()
    shared = (await first.put_bytes(b"shared", "x")).digest
    await second.put_bytes(b"shared", "x")
    first.close()
    first.close()
    assert await store.sweep(nothing) == 0
    second.close()
    assert await store.sweep(nothing) == 1
    assert shared not in await store.digests()


async def test_the_sweep_keeps_blobs_that_were_added_again(store: ContentStore) -> None:
    """A blob is unreferenced when the sweep lists it, and stored and referenced again before the sweep removes it."""
    first = store.intake()
    digest = (await first.put_bytes(b"again", "x")).digest
    first.close()

    async def meanwhile() -> set[str]:
        second = store.intake()
        await second.put_bytes(b"again", "x")
        second.close()
        return set()

    assert await store.sweep(meanwhile) == 0
    assert await store.digests() == (digest,)


class SlowRemovals:
    """Files whose removal takes a while."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def __getattr__(self, name: str) -> object:
        return getattr(self._files, name)

    async def remove_tree(self, path: Path, *, flush: Sequence[Path] = ()) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await self._files.remove_tree(path, flush=flush)


@pytest.mark.parametrize("later", range(0, 20, 2))
async def test_a_document_that_is_just_being_removed_is_written_again(host: FakeHost, later: int) -> None:
    slow = dataclasses.replace(host, files=SlowRemovals(host.files))  # type: ignore[arg-type]
    store = ContentStore(slow, PLACE, Intents(FakeStore(host.clock)))
    await store.open()
    first = store.intake()
    digest = (await first.put_bytes(b"again", "x")).digest
    first.close()

    async def again() -> None:
        for _ in range(later):
            await asyncio.sleep(0)
        await store.intake().put_bytes(b"again", "x")

    await asyncio.gather(store.sweep(nothing), again())
    assert await store.read(digest) == b"again"


async def test_sweeps_and_intakes_at_once_lose_nothing(store: ContentStore) -> None:
    kept: set[str] = set()

    async def names() -> set[str]:
        await asyncio.sleep(0)
        return set(kept)

    async def bring(number: int) -> None:
        intake = store.intake()
        digest = (await intake.put_bytes(b"%d" % (number % 7), "x")).digest
        await asyncio.sleep(0)
        kept.add(digest)
        intake.close()

    await asyncio.gather(*(bring(n) for n in range(40)), *(store.sweep(names) for _ in range(10)))
    assert set(await store.digests()) == kept
    assert len(kept) == 7


async def test_opening_removes_temporary_files_and_keeps_blobs(store: ContentStore, host: FakeHost) -> None:
    digest = (await store.intake().put_bytes(b"kept", "x")).digest
    await host.files.write(PLACE / "scratch/half", b"half")
    again = ContentStore(host, PLACE, Intents(FakeStore(host.clock)))
    await again.open()
    assert await again.digests() == (digest,)
    assert await host.files.names(PLACE / "scratch") == ()
