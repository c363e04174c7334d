"""Ports to which the processes of a control group may bind and connect, and files that they open."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors import descriptors
from waiting import until

from isola.host import port_programs
from isola.host.cgroups import LinuxCgroups
from isola.host.opened_files import OpenedFiles
from isola.host.port_programs import PortRecording
from isola.host.process import LinuxProcesses
from isola.model.limits import Limits

ROOT = "import os, sys; os.chroot(sys.argv[1]); print(flush=True); sys.stdin.read()"
"""Has a root in the same mount as the files, also if /tmp is a mount of its own."""
TRY = """
import json, os, socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
found = []
for family, kind, verb, port in json.loads(sys.argv[2]):
    made = socket.socket(getattr(socket, "AF_" + family), getattr(socket, "SOCK_" + kind))
    here = "::1" if family == "INET6" else "127.0.0.1"
    try:
        if verb == "answer":
            made.bind((here, port))
            made.sendto(b"x", (here, 39999))
        elif verb == "send":
            made.sendto(b"x", (here, port))
        else:
            getattr(made, verb)((here, port))
        found.append(0)
    except OSError as error:
        found.append(error.errno)
print(json.dumps(found))
"""
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""In a network namespace in which no other socket has a port."""
REFUSED, NOBODY = 1, 111  # EPERM; ECONNREFUSED


@pytest.fixture
def group() -> Iterator[Path]:
    """Of cgroup2."""
    top = LinuxCgroups().unified
    assert top is not None
    made = top / f"isola-test-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    yield made
    until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def tried(group: Path, *what: tuple[str, str, str, int]) -> list[int]:
    """The errors of each in a process of the group; 0: none."""
    argv = [*ALONE, sys.executable, "-c", TRY, str(group), json.dumps(what)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=120)
    return list(json.loads(done.stdout))


def test_other_ports_are_refused_and_counted(group: Path) -> None:
    port_programs.limit(str(group), ("tcp/38080", "udp/38053-38055"), ("tcp/38081",))
    assert tried(
        group,
        ("INET", "STREAM", "bind", 38080), ("INET6", "STREAM", "bind", 38080), ("INET", "STREAM", "bind", 0),
        ("INET", "DGRAM", "bind", 38054), ("INET", "STREAM", "connect", 38081), ("INET", "DGRAM", "answer", 38055),
    ) == [0, 0, 0, 0, NOBODY, 0]  # fmt: skip
    assert tried(
        group,
        ("INET", "STREAM", "bind", 38081), ("INET6", "STREAM", "bind", 38081), ("INET", "DGRAM", "bind", 38080),
        ("INET", "DGRAM", "bind", 38056), ("INET", "STREAM", "connect", 38080), ("INET6", "STREAM", "connect", 1),
        ("INET", "DGRAM", "connect", 38081), ("INET", "DGRAM", "send", 38081), ("INET6", "DGRAM", "send", 53),
    ) == [REFUSED] * 9  # fmt: skip
    assert port_programs.refused(str(group)) == {
        "listen tcp/38081": 2, "listen udp/38080": 1, "listen udp/38056": 1, "connect tcp/38080": 1, "connect tcp/1": 1,
        "connect udp/38081": 2, "connect udp/53": 1,
    }  # fmt: skip


def test_a_limit_is_replaced_and_ends(group: Path) -> None:
    counted: list[object] = []
    bind = ("INET", "STREAM", "bind", 38080), ("INET", "STREAM", "connect", 38081)
    for listens, connects, expected in (
        ((), (), [REFUSED, REFUSED]),
        (("tcp/1-65535",), None, [0, NOBODY]),
        (None, (), [0, REFUSED]),
        (None, None, [0, NOBODY]),
    ):
        port_programs.limit(str(group), listens, connects)
        assert tried(group, *bind) == expected
        counted.append(port_programs.refused(str(group)))
    once, twice = {"listen tcp/38080": 1, "connect tcp/38081": 1}, {"listen tcp/38080": 1, "connect tcp/38081": 2}
    assert counted == [once, once, twice, {}]


async def test_limits_of_a_group_contain_its_ports() -> None:
    groups, path = LinuxCgroups(), f"/isola-test-{uuid.uuid4().hex[:8]}"
    await groups.create(path)
    try:
        await groups.limit(path, Limits(listens=("tcp/38080",)))
        assert groups.unified is not None
        assert tried(groups.unified / path[1:], ("INET", "STREAM", "bind", 38081)) == [REFUSED]
        assert groups.refused_ports(path) == {"listen tcp/38081": 1}
    finally:
        await groups.remove(path)
    assert groups.refused_ports(path) == {}


def test_ports_are_recorded_and_nothing_is_refused(group: Path) -> None:
    recording = PortRecording(str(group))
    try:
        assert tried(
            group, ("INET", "STREAM", "bind", 38080), ("INET6", "STREAM", "connect", 38081),
            ("INET", "DGRAM", "send", 53), ("INET", "DGRAM", "answer", 38055), ("INET", "STREAM", "bind", 0),
        ) == [0, NOBODY, 0, 0, 0]  # fmt: skip
        assert recording.read() == {
            ("listen", "tcp/38080"), ("listen", "udp/38055"), ("connect", "tcp/38081"), ("connect", "udp/53")
        }  # fmt: skip
        assert not recording.full()
        assert tried(group, *(("INET", "STREAM", "bind", 38000 + number) for number in range(300))) == [0] * 300
        assert recording.full()
    finally:
        recording.close()


def test_directories_of_opened_files_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some/file").write_text("x")
    processes = LinuxProcesses()
    with subprocess.Popen(
        [sys.executable, "-c", ROOT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as opener:
        assert opener.stdout is not None and opener.stdout.readline() == b"\n"
        process = processes.identify(opener.pid)
        assert process is not None
        files = OpenedFiles()
        try:
            files.follow(process)
            (tmp_path / "some/file").read_text()  # the daemon's own
            assert str(tmp_path / "some") not in files.directories

            def seen() -> bool:  # again, if other programs of the machine have filled the queue of events
                subprocess.run(["cat", str(tmp_path / "some/file")], stdout=subprocess.DEVNULL, check=True)
                return str(tmp_path / "some") in files.directories

            until(seen)
            for number in range(5000):
                (tmp_path / f"d{number}").mkdir()
                (tmp_path / f"d{number}/f").touch()
            subprocess.run(["sh", "-c", 'for f in "$0"/*/f; do : <$f; done', str(tmp_path)], check=True)
            until(lambda: files.lost)
            assert len(files.directories) <= 4096
        finally:
            files.close()
            opener.communicate()
    until(lambda: not any("fanotify" in target for _, target in descriptors()))
