"""Copies of trees on a real file system preserve links, holes, attributes, times and whiteouts."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from isola.host.files import LinuxFiles


async def test_links_holes_attributes_and_marks_are_kept() -> None:
    with tempfile.TemporaryDirectory(prefix="isola-copy-") as directory:
        source, target = Path(directory) / "source", Path(directory) / "target"
        source.mkdir()
        (source / "file").write_text("x")
        os.link(source / "file", source / "other name")
        (source / "link").symlink_to("/etc/shadow")
        with (source / "sparse").open("wb") as file:
            file.seek(64 << 20)
            file.write(b"end")
        os.mknod(source / "whiteout", stat.S_IFCHR, 0)
        os.mkfifo(source / "fifo")
        (source / "opaque").mkdir()
        os.setxattr(source / "opaque", "trusted.overlay.opaque", b"y")
        os.setxattr(source / "file", "user.note", b"mine")
        os.chmod(source / "file", 0o4755)
        os.utime(source / "file", ns=(1, 2_000_000_000))
        await LinuxFiles().copy_tree(source, target)
        assert (target / "file").stat().st_ino == (target / "other name").stat().st_ino
        assert os.readlink(target / "link") == "/etc/shadow"
        assert (target / "sparse").stat().st_size == (64 << 20) + 3
        assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
        whiteout = (target / "whiteout").lstat()
        assert stat.S_ISCHR(whiteout.st_mode) and whiteout.st_rdev == 0
        assert stat.S_ISFIFO((target / "fifo").lstat().st_mode)
        assert os.getxattr(target / "opaque", "trusted.overlay.opaque") == b"y"
        assert os.getxattr(target / "file", "user.note") == b"mine"
        assert stat.S_IMODE((target / "file").stat().st_mode) == 0o4755
        assert (target / "file").stat().st_mtime_ns == 2_000_000_000
