"""A program exchanges directories for links while the tree that it shares is copied by the host's root."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isola.errors import HostFailure
from isola.host.files import LinuxFiles

_TRIES = 60
_DIRECTORIES = 40
_SECRET = "only root of the host may read this"
_SWAPPER = """
import os, sys
tree, precious, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
names = [f"{tree}/d{number}" for number in range(count)]
for name in names:
    os.mkdir(name)
    open(f"{name}/secret", "w").close()
    os.symlink(precious, f"{name}.link")
print("ready", flush=True)
while True:
    for name in names:
        os.rename(name, f"{name}.away")
        os.rename(f"{name}.link", name)
        os.rename(name, f"{name}.link")
        os.rename(f"{name}.away", name)
"""


@contextlib.contextmanager
def exchanging(tree: Path, precious: Path) -> Iterator[None]:
    argv = [sys.executable, "-c", _SWAPPER, str(tree), str(precious), str(_DIRECTORIES)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdout is not None
        try:
            assert inside.stdout.readline() == "ready\n"
            yield
        finally:
            inside.kill()


async def test_symlinks_that_replace_directories_are_not_followed() -> None:
    with tempfile.TemporaryDirectory(prefix="isola-copy-") as directory:
        tree, target, precious = (Path(directory) / name for name in ("tree", "target", "precious"))
        tree.mkdir()
        precious.mkdir(mode=0o700)
        (precious / "secret").write_text(_SECRET)
        with exchanging(tree, precious):
            for _ in range(_TRIES):
                with contextlib.suppress(HostFailure):  # exchanged files cannot be copied reliably
                    await LinuxFiles().copy_tree(tree, target)
                copied = [found.read_text() for found in target.glob("d*/secret") if not found.parent.is_symlink()]
                assert _SECRET not in copied
                shutil.rmtree(target)


async def test_symlinks_in_the_target_are_not_followed() -> None:
    with tempfile.TemporaryDirectory(prefix="isola-copy-") as directory:
        source, target = Path(directory) / "source", Path(directory) / "target"
        for path in (source, target, source / "below"):
            path.mkdir()
        (source / "below" / "link").symlink_to("/etc")
        (source / "link").symlink_to("below")
        await LinuxFiles().copy_tree(source, target, into=True)
        assert (target / "below" / "link").readlink() == Path("/etc")
        assert (target / "link").readlink() == Path("below")
