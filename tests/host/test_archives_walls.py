"""The confinement of the process that reads archives, and hosts that lack features for it, which are reported."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import intruder
import pytest
import refusing
from daemon import TIMEOUT_FACTOR
from tars import directory, member, tar

from isola.errors import Unsupported
from isola.host.archive.archives import LinuxArchives
from isola.host.files import LinuxFiles
from isola.host.process import Child, Completed, LinuxProcesses
from isola.images.drivers.file import FileSource
from isola.testing.host import fake_host

REFUSED = {
    "": (),
    "filters": ("a filter of system calls",),
    "user-namespaces": ("a user namespace",),
    "user-namespaces,namespaces": (
        "a user namespace", "a process namespace", "a network namespace", "an IPC namespace",
        "a namespace for the host name", "a cgroup namespace", "mounts of its own",
    ),
    "namespaces": (
        "a process namespace", "a network namespace", "an IPC namespace", "a namespace for the host name",
        "a cgroup namespace", "mounts of its own",
    ),
    "mount-copies": ("mounts of its own", "ids of its own (the file system cannot be id-mapped)"),
}  # fmt: skip
"""Refused system calls, and the confinement that is missing then."""


class RefusingProcesses(LinuxProcesses):
    """Starts programs on a host that refuses some system calls."""

    def __init__(self, what: str) -> None:
        self.what = what

    async def run(self, argv: Sequence[str], **options: Any) -> Completed:
        return await super().run([sys.executable, refusing.__file__, self.what, *argv], **options)

    async def spawn(self, argv: Sequence[str], **options: Any) -> Child:
        return await super().spawn([sys.executable, refusing.__file__, self.what, *argv], **options)


@pytest.fixture
async def target() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="isola-walls-") as name:
        place = Path(name) / "target"
        await asyncio.to_thread(place.mkdir)
        yield place
        await LinuxFiles().remove_tree(place)


@pytest.fixture
def listening() -> Iterator[Mapping[str, int]]:
    """A process that can be signalled, and sockets to connect to."""
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_INET) as network:
        abstract.bind(f"\0isola-intruder-{os.getpid()}")
        network.bind(("127.0.0.1", 0))
        abstract.listen()
        network.listen()
        yield {"host": os.getpid(), "port": network.getsockname()[1], "device": os.stat("/").st_dev}


async def _intrude(target: Path, facts: Mapping[str, int], refused: str = "") -> Any:
    argv = [sys.executable, intruder.__file__, str(target), json.dumps(facts)]
    done = await RefusingProcesses(refused).run(argv, timeout=60 * TIMEOUT_FACTOR)
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer
    return answer


@pytest.mark.parametrize("refused", REFUSED)
async def test_all_escapes_fail(target: Path, listening: Mapping[str, int], refused: str) -> None:
    """If one mechanism is missing, the others suffice, but for attempts that only the filter prevents."""
    answer = await _intrude(target, listening, refused)
    assert set(answer["lacks"]) == set(REFUSED[refused])
    held = intruder.CONSEQUENTIAL if refused == "filters" else (*intruder.CONSEQUENTIAL, *intruder.FILTERED)
    assert [name for name in (way.__name__ for way in held) if answer["tried"][name] == "done"] == []


async def test_only_the_target_is_visible(target: Path, listening: Mapping[str, int]) -> None:
    answer = await _intrude(target, listening)
    assert sorted(answer["names"]) == ["file", "group", "inner", "proc"]  # files created by the intruder
    assert len(answer["descriptors"]) == 4  # standard streams, and the connection to the parent
    assert 0 < answer["threads"] < 1000, "PIDs are those of the host"


async def test_the_parent_marks_directories_and_does_nothing_else(target: Path, listening: Mapping[str, int]) -> None:
    answer = await _intrude(target, listening)
    assert (answer["marked"], answer["asked"]) == ("Operation not permitted", "Operation not permitted")
    assert os.listxattr(target / "file") == []


@pytest.mark.parametrize("refused", REFUSED)
async def test_a_host_without_some_confinement_unpacks_too(target: Path, refused: str) -> None:
    archives, archive = LinuxArchives(RefusingProcesses(refused)), target.parent / "archive"
    data = tar(
        directory("d", uid=5), member("d/f", b"x", uid=6, mode=0o4755), member("d/.wh.g"), member("d/.wh..wh..opq")
    )
    await LinuxFiles().write(archive, data)
    report = await archives.unpack(archive, target, whiteouts=True)
    assert report.entries == 4
    found = os.lstat(target / "d" / "f")
    assert (found.st_uid, stat.S_IMODE(found.st_mode), os.lstat(target / "d").st_uid) == (6, 0o4755, 5)
    assert os.lstat(target / "d" / "g").st_rdev == 0
    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"
    assert set(await archives.lacks()) == set(REFUSED[refused])


_SILENT = """
import time
from isola.host import cell
def work(inside):
    inside.answer({}) if ANSWERS else None
    inside._end.close()
    time.sleep(60)
print(cell.run(cell.Cell(LIMITS), work))
"""


@pytest.mark.parametrize(("answers", "limits"), [(False, "seconds=1"), (True, "seconds=60, real_seconds=1")])
async def test_a_hanging_reader_is_killed_after_a_timeout(answers: bool, limits: str) -> None:
    """It uses no CPU time, which is limited."""
    program = [sys.executable, "-c", _SILENT.replace("ANSWERS", str(answers)).replace("LIMITS", limits)]
    done = await LinuxProcesses().run(program, timeout=60 * TIMEOUT_FACTOR, check=False)
    assert done.status == -signal.SIGALRM


THROUGH_A_LINK = """
import sys
from pathlib import Path
from isola.host import cell
print(cell.run(cell.Cell(root=Path(sys.argv[1]), seconds=5), lambda inside: {"lacks": list(inside.lacks)}).decode())
"""


def test_mounts_that_are_shared_as_under_systemd_take_no_wall_away(tmp_path: Path) -> None:
    argv = ["unshare", "--mount", "--propagation", "shared", sys.executable, "-c", THROUGH_A_LINK, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120 * TIMEOUT_FACTOR, check=False)
    assert json.loads(done.stdout) == {"lacks": []}, done.stderr


def test_a_target_behind_a_symlink_is_confined_too(tmp_path: Path) -> None:
    """For example the interpreter's directory of the installed program."""
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to("place")
    argv = [sys.executable, "-c", THROUGH_A_LINK, str(tmp_path / "link")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * TIMEOUT_FACTOR, check=True)
    assert json.loads(done.stdout) == {"lacks": []}


async def test_the_probe_of_files_names_missing_confinement() -> None:
    host = fake_host()
    host.archives.walls_missing = ("a user namespace",)
    (warning, *_) = (await FileSource.probe(host)).warnings
    assert "a user namespace" in warning


async def test_the_reader_of_squashfs_images_has_no_privileges(tmp_path: Path) -> None:
    """A program in its place can read the image, which only root may read, and no other file of the host."""
    image = tmp_path / "image"
    await LinuxFiles().write(image, b"hsqs" + bytes(100))
    found = json.loads(await asyncio.to_thread(_in_place_of_the_converter, image))
    assert found == {"image": "hsqs", "refused": ["/etc/shadow", "/image", "/made", "/usr/made", "socket"]}


@pytest.mark.parametrize("refused", ["namespaces", "mount-copies"])
async def test_without_a_mount_namespace_that_program_is_not_started(target: Path, refused: str) -> None:
    image = target.parent / "image"
    await LinuxFiles().write(image, b"hsqs" + bytes(100))
    with pytest.raises(Unsupported):
        await LinuxArchives(RefusingProcesses(refused)).unpack(image, target)


def _in_place_of_the_converter(image: Path) -> bytes:
    """Output of another program, started by a separate process that may fork."""
    start = (
        "import sys; from pathlib import Path; from isola.host.archive import squashfs; "
        "command = ('/usr/bin/python3', '-I', '-c', sys.argv[2]); "
        "made = squashfs.Converter(Path(sys.argv[1]), seconds=60, command=command); "
        "sys.stdout.buffer.write(made.output.readall()); sys.stdout.flush(); made.end()"
    )
    return subprocess.run([sys.executable, "-c", start, image, _TRY], stdout=subprocess.PIPE, check=True).stdout


_TRY = """
import json, os, socket
refused = []
def attempt(name, way):
    try: way()
    except OSError: refused.append(name)
attempt("/etc/shadow", lambda: os.open("/etc/shadow", os.O_RDONLY))
attempt("/image", lambda: os.open("/image", os.O_WRONLY))
attempt("/made", lambda: os.open("/made", os.O_WRONLY | os.O_CREAT))
attempt("/usr/made", lambda: os.open("/usr/made", os.O_WRONLY | os.O_CREAT))
attempt("socket", lambda: socket.socket())
print(json.dumps({"image": open("/image", "rb").read(4).decode(), "refused": refused}))
"""
