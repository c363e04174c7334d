"""A Debian 12 image for tests, built once by a daemon that reaches the mirror and kept below ``.cache``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from daemon import Daemon

_TREE = Path(__file__).resolve().parents[2]
_RECIPE = sorted((_TREE / "src/isola/images").rglob("debian*.py"))
_DISK_RECIPE = [_TREE / "src/isola/images/disk_recipe.py", _TREE / "src/isola/model/agent_service.py"]


def debian_image(name: str = "debian/12") -> tuple[Path, Path]:
    """Metadata and root file system, or disk, of an export; built again when the recipe has changed.

    Concurrent test runs wait for the one that builds.
    """
    recipe = _RECIPE + (_DISK_RECIPE if name.endswith("/vm") else [])
    key = hashlib.sha256(b"".join(file.read_bytes() for file in recipe)).hexdigest()[:16]
    place = _TREE / ".cache" / f"{name.replace('/', '-')}-{key}"
    made_once(place, lambda scratch: _build(scratch, name))
    return place / "metadata", place / "rootfs"


def made_once(place: Path, make: Callable[[Path], None]) -> None:
    """Have a directory, which is made in another one if it is missing; others who want this one wait."""
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        return
    held = os.open(place.parent / f"{place.name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not place.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=place.parent))
            try:
                make(scratch)
                os.rename(scratch, place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(held)


def _build(target: Path, name: str) -> None:
    daemon = Daemon(mirror=True)
    try:
        daemon.start()
        isola = [sys.executable, "-m", "isola.cli.main"]
        env = os.environ | {"ISOLA_DIR": str(daemon.directory)}
        subprocess.run([*isola, "image", "build", name], env=env, check=True, timeout=900)
        subprocess.run([*isola, "image", "export", name, str(target)], env=env, check=True, timeout=120)
        metadata, rootfs = sorted(target.iterdir(), key=lambda file: file.stat().st_size)
        metadata.rename(target / "metadata")
        rootfs.rename(target / "rootfs")
    finally:
        daemon.close()
