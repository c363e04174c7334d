"""Builds Debian's packages into a tarball of a root, or into the disk of a virtual machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from isola.errors import CommandFailed
from isola.host import Host
from isola.host.exhaustion import full_by, reports_full_disk, storing
from isola.images.debian_progress import BuildProgress
from isola.images.debian_recipe import Recipe, setup_script
from isola.images.disk_recipe import BOOT_FILES, Layout
from isola.operations import Operation

_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT = 3600.0
_REMEDY = "check that the mirror is reachable and has the release and all packages"
_REMEDIES = {
    "is expired (invalid since": "the mirror's Release file has expired, so it lacks recent security updates: "
    "use another mirror (option mirror) or release, or correct the clock of this host",
    "is not valid yet (invalid for": "the mirror's Release file is dated in the future: correct the clock of this host",
}
"""Remedies by apt's message."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is built: packages, then files and commands."""

    recipe: Recipe
    files: Mapping[str, str]
    """Path in the root -> text."""
    setup: str
    """Commands that come last, with the root in ``$root``."""
    made: datetime
    """The latest modification time of files."""


class DebianBuild:
    """One build, in a directory of its own that the caller removes."""

    def __init__(self, host: Host, op: Operation, content: Content, place: Path) -> None:
        self._host = host
        self._op = op
        self._content = content
        self._place = place

    async def tarball(self) -> Path:
        target = self._place / "root.tar"
        await self._install(target)
        return target

    async def disk(self, layout: Layout) -> Path:
        """A sparse file."""
        # Inside, where apt's own user sees the working directory.
        await self._install(Path("/mnt/root"))
        tree = self._place / "work/root"
        disk = await self.write_disk(layout, tree)
        await self._host.files.remove_tree(tree)
        return disk

    async def write_disk(self, layout: Layout, tree: Path) -> Path:
        """Around the file system of a root that has the boot programs in it."""
        disk, files = self._place / "disk.raw", self._host.files
        size = layout.size(await files.disk_usage(tree))
        boot = {path: await files.read(tree / path) for path in BOOT_FILES}
        with self._op.step("Write file systems"):
            pieces = layout.pieces(size, boot, self._content.made)
            for piece in sorted(pieces, key=lambda piece: piece.offset):
                await files.extend(disk, piece.data, at=piece.offset)
            await self._run(layout.make_root(str(disk), str(tree), size))
        return disk

    async def _install(self, target: Path) -> None:
        work, setup, files = self._place / "work", self._place / "setup", self._place / "files"
        await self._lay_out(work, files, setup)
        argv = self._content.recipe.argv(work=str(work), target=str(target), setup=str(setup))
        progress = BuildProgress(self._op)
        try:
            await self._host.processes.run(argv, env=self._environment(), timeout=_TIMEOUT, on_line=progress.take_line)
        except CommandFailed as error:
            progress.end(error)
            raise full_by(error) if reports_full_disk(error.evidence) else _explained(error) from error
        except BaseException as error:
            progress.end(error)
            raise
        progress.end()

    async def _run(self, argv: Sequence[str]) -> None:
        """In the same room as the packages were installed in, but for the working directory."""
        room = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
        with storing():
            await self._host.processes.run([*room, *argv], env=self._environment(), timeout=_TIMEOUT)

    def _environment(self) -> dict[str, str]:
        epoch = str(int(self._content.made.timestamp()))
        return {
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "TMPDIR": "/mnt",
            "SOURCE_DATE_EPOCH": epoch,
            "E2FSPROGS_FAKE_TIME": epoch,  # read by versions that do not know the former
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        }

    async def _lay_out(self, work: Path, files: Path, setup: Path) -> None:
        """Prepare the build's directory: an empty working directory, files to add, and the setup script."""
        await self._host.files.make_directory(work, mode=0o755)
        for path, content in self._content.files.items():
            await self._host.files.make_directory((files / path).parent, mode=0o755)
            await self._host.files.write(files / path, content.encode(), mode=0o644, durable=False)
        script = setup_script(str(files), self._content.setup)
        await self._host.files.write(setup, script.encode(), mode=0o755, durable=False)


def _explained(error: CommandFailed) -> CommandFailed:
    """The error lines of apt and mmdebstrap, each with the line before it, instead of the end of the log."""
    lines = error.evidence.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith(("E:", "W:", "Err:", "dpkg: error"))]
    shown = sorted({*errors, *(number - 1 for number in errors[:1] if number)})
    evidence = "\n".join(lines[number] for number in shown) or error.evidence
    remedy = next((remedy for what, remedy in _REMEDIES.items() if what in evidence), _REMEDY)
    return CommandFailed(["mmdebstrap"], error.status, evidence, remedy=remedy)
