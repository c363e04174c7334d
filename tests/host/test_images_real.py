"""Images on a real host: a squashfs root, a hostile upload, builds that are cancelled, and a killed daemon."""

import asyncio
import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from image_library import split, unified
from tars import directory, member, symlink, tar

from isola.errors import InvalidInput, UnsafeArchive
from isola.events import Events
from isola.host.linux import linux_host
from isola.images import ImageLibrary, SourceRequest
from isola.model.image import Alias, Image
from isola.model.reference import Ref
from isola.operations import Operations
from isola.state import Intents, Scoped, record_codec
from isola.testing.store import FakeStore

METADATA = member("metadata.yaml", b"architecture: x86_64\ncreation_date: 1700000000\n")


class Real:
    """A library on this machine, in its own directory."""

    def __init__(self, place: Path) -> None:
        self.host = linux_host()
        self.place = place
        state = FakeStore(self.host.clock)
        events = Events(self.host.clock.now)
        self.operations = Operations(events, now=self.host.clock.now, new_id=self.host.clock.uuid)
        self.library = ImageLibrary(
            self.host,
            Scoped(state, "image", "/images/", record_codec(Image)),
            Scoped(state, "alias", "/aliases/", record_codec(Alias)),
            events,
            place / "isola",
            operations=self.operations,
            intents=Intents(state),
        )

    async def bring(self, *uploads: bytes) -> Image:
        files = [self.place / f"upload-{number}" for number in range(len(uploads))]
        for file, data in zip(files, uploads, strict=True):
            file.write_bytes(data)
        done = await self.operations.finish(self.library.start_import(files))
        return self.library.get(Ref.default(str(done.metadata["fingerprint"])))

    async def unpacked(self, image: Image) -> Path:
        target = self.place / f"root-{image.fingerprint[:8]}"
        target.mkdir()
        await self.library.unpack_layer(image.layers[0], target)
        return target

    def left(self) -> list[str]:
        """Scratch files, unreferenced blobs, and mounts and processes with the test's directory in their paths."""
        scratch = self.place / "isola/images/scratch"
        found = [f"scratch: {entry.name}" for entry in scratch.iterdir()] if scratch.is_dir() else []
        return found + traces(self.place)


def traces(place: Path) -> list[str]:
    """Mounts and processes that name a directory."""
    found = [f"mount: {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(place) in argv:
                found.append(f"process: {argv[:200]}")
    return found


@pytest.fixture
async def real() -> AsyncIterator[Real]:
    with tempfile.TemporaryDirectory(prefix="isola-real-") as directory_:
        real = Real(Path(directory_))
        await real.library.probe()
        await real.library.open()
        yield real
        await real.operations.close()
        assert real.left() == []


async def test_a_unified_image_unpacks_to_its_root(real: Real) -> None:
    root = await real.unpacked(await real.bring(unified()))
    assert (root / "bin/ls").readlink() == Path("busybox")
    assert not (root / "metadata.yaml").exists()


async def test_a_squashfs_root_becomes_a_layer(real: Real) -> None:
    content = tar(directory("etc", uid=5), member("etc/motd", b"hello", uid=1000, gid=7), symlink("init", "etc/motd"))
    packed = real.place / "root.squashfs"
    await real.host.processes.run(["tar2sqfs", "-q", str(packed)], stdin=content)
    metadata, squashfs = tar(METADATA), packed.read_bytes()
    image = await real.bring(metadata, squashfs)
    assert image.fingerprint == hashlib.sha256(metadata + squashfs).hexdigest()
    assert [path.read_bytes() for _, path in real.library.export(image.ref)] == [metadata, squashfs]
    motd = await real.unpacked(image) / "etc/motd"
    assert motd.read_bytes() == b"hello"
    assert (motd.stat().st_uid, motd.stat().st_gid) == (1000, 7)


async def test_a_damaged_squashfs_is_refused(real: Real) -> None:
    with pytest.raises(InvalidInput):
        await real.bring(tar(METADATA), b"hsqs" + bytes(5000))
    assert list(real.library) == []


async def test_a_hostile_upload_leaves_the_store_unchanged(real: Real) -> None:
    before = await real.bring(*split())
    blobs = await real.library.store.digests()
    outside = real.place / "outside"
    with pytest.raises(UnsafeArchive):
        await real.bring(tar(METADATA, member("rootfs/../../outside", b"x"), member("rootfs/a", b"a")))
    assert not outside.exists()
    assert await real.library.store.digests() == blobs
    assert list(real.library) == [before]


async def test_writing_through_a_link_stays_inside(real: Real) -> None:
    """Such an archive is accepted, but does no harm when it is unpacked."""
    outside = real.place / "outside"
    outside.mkdir()
    image = await real.bring(
        tar(METADATA, symlink("rootfs/way", str(outside)), member("rootfs/way/in", b"x"), member("rootfs/init", b"y"))
    )
    with pytest.raises(UnsafeArchive):
        await real.unpacked(image)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("wanted", ["Read package lists", "Install base packages"])
async def test_a_cancelled_build_leaves_nothing(real: Real, wanted: str) -> None:
    operation = real.library.start_build("debian", SourceRequest(name="debian/12"))
    async with asyncio.timeout(120):
        while wanted not in [step.name for step in operation.view().steps]:
            assert not operation.status.final, operation.error
            await asyncio.sleep(0.05)
    operation.cancel()
    await operation.wait()
    assert operation.status.name == "CANCELLED"
    assert operation.warnings == []
    assert real.left() == []
    assert await real.library.store.digests() == ()


BUILDER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_images_real import Real
from isola.images import SourceRequest

async def main():
    real = Real(Path(sys.argv[1]))
    await real.library.open()
    operation = real.library.start_build("debian", SourceRequest(name="debian/12"))
    while "Unpack base packages" not in [step.name for step in operation.view().steps]:
        assert not operation.status.final, operation.error
        await asyncio.sleep(0.05)
    print("building", flush=True)
    await operation.wait()

asyncio.run(main())
"""


async def test_a_build_dies_with_its_daemon() -> None:
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="isola-orphan-") as directory_:
        program = BUILDER.format(path=[str(here), str(here.parent / "support")])
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, directory_, stdout=asyncio.subprocess.PIPE
        )
        assert daemon.stdout is not None
        async with asyncio.timeout(120):
            assert await daemon.stdout.readline() == b"building\n"
        assert any("mmdebstrap" in trace for trace in traces(Path(directory_)))
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
        for _ in range(1200):
            if not traces(Path(directory_)):
                break
            await asyncio.sleep(0.05)
        assert traces(Path(directory_)) == []
        again = Real(Path(directory_))
        await again.library.open()
        assert again.left() == []
