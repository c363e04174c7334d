"""The two root file systems of all subjects: Isola's Debian 12 image and a tiny one."""

import io
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.program import command
from bench.shell import Trouble, run, until


@dataclass(frozen=True)
class Images:
    """Plain tar archives of root file systems, and the metadata that LXD-like daemons need in addition."""

    directory: Path

    def metadata_of(self, image: str) -> Path:
        """A tar archive with ``metadata.yaml``."""
        return self.directory / f"{image}.metadata.tar"

    def rootfs(self, image: str) -> Path:
        """The root file system of ``debian`` or ``tiny``."""
        return self.directory / f"{image}.tar"

    def unpacked(self, image: str, target: Path) -> Path:
        """Unpack one as a directory."""
        target.mkdir(parents=True)
        run(["tar", "-xp", "--numeric-owner", "--xattrs", "-f", str(self.rootfs(image)), "-C", str(target)])
        return target


def prepare(directory: Path) -> Images:
    """Create missing images in ``directory``; BENCH_ROOTFS names a Debian tar to use instead of Isola's."""
    directory.mkdir(parents=True, exist_ok=True)
    images = Images(directory)
    for image in ("debian", "tiny"):
        _write_metadata(images.metadata_of(image), image)
    if not images.rootfs("tiny").exists():
        _write_tiny(images.rootfs("tiny"))
    given = os.environ.get("BENCH_ROOTFS")
    if given:
        shutil.copyfile(given, images.rootfs("debian"))
    if not images.rootfs("debian").exists():
        _export_debian(images.rootfs("debian"))
    return images


def _write_metadata(target: Path, image: str) -> None:
    machine = os.uname().machine
    text = f"architecture: {machine}\ncreation_date: 1750000000\nproperties:\n  os: {image}\n  description: bench\n"
    with tarfile.open(target, "w") as archive:
        member = tarfile.TarInfo("metadata.yaml")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))


def _write_tiny(target: Path) -> None:
    """The root file system of the image that the tests use."""
    from isola.testing.images import tiny_split_image

    with tempfile.TemporaryDirectory() as scratch:
        _, rootfs = tiny_split_image(Path(scratch))
        run(["sh", "-c", f"zcat {rootfs} > {target}.partial && mv {target}.partial {target}"])


def _export_debian(target: Path) -> None:
    """Isola's image as a plain tar: from the daemon of this machine, or from a temporary one."""
    with tempfile.TemporaryDirectory(prefix="isola-bench-image-") as scratch:
        if _has_debian({}):
            _export({}, Path(scratch), target)
            return
        env = {"ISOLA_DIR": f"{scratch}/daemon"}
        run([command("isolad"), "--dir", env["ISOLA_DIR"], "--minimal", "--background"])
        try:
            for _ in until(30, 0.1):
                if _answers(env):
                    break
            run([command("isola"), "image", "build", "debian/12"], env=env)
            _export(env, Path(scratch), target)
        finally:
            run([command("isolad"), "--dir", env["ISOLA_DIR"], "--stop", "--instances"])


def _answers(env: dict[str, str]) -> bool:
    try:
        run([command("isola"), "version"], env=env)
    except (Trouble, OSError):
        return False
    return True


def _has_debian(env: dict[str, str]) -> bool:
    try:
        found = json.loads(run([command("isola"), "image", "list", "--format", "json"], env=env))
    except (Trouble, OSError, ValueError):
        return False
    return any(alias["name"] == "debian/12" for image in found for alias in image["aliases"])


def _export(env: dict[str, str], scratch: Path, target: Path) -> None:
    place = scratch / "export"
    place.mkdir()
    run([command("isola"), "image", "export", "debian/12", str(place)], env=env)
    rootfs = max(place.iterdir(), key=lambda path: path.stat().st_size)
    partial = target.with_suffix(".partial")
    if rootfs.read_bytes()[:4] == b"\x28\xb5\x2f\xfd":
        run(["zstd", "-q", "-d", "-f", str(rootfs), "-o", str(partial)])
    else:
        run(["sh", "-c", f"zcat -f {rootfs} > {partial}"])
    partial.rename(target)
