"""``isola console --type vga``: a viewer on this machine connects to the screen of an instance."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from served_daemon import ServedDaemon

from isola.daemon.build import Drivers
from isola.host.sockets import Stream
from isola.testing.door import world_in
from isola.testing.parts import World
from isola.testing.runtime import FakeGuest
from isola.testing.sockets import FakeStream, stream_pair
from isola.testing.vm import FakeVm, FakeVmGuest

ISOLA = [sys.executable, "-m", "isola.cli.main"]
VIEWER = """#!{python}
import socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1].removeprefix("spice+unix://"))
    link.sendall(b"REDQ")
    sys.exit(7 if link.recv(4) == b"REDQ" else 1)
"""


class EchoGuest(FakeVmGuest):
    """Its screen says what it is told."""

    async def display(self, protocol: str = "spice") -> Stream:
        near, far = stream_pair()
        self._require().displays.append(far)
        self._echoing = asyncio.create_task(_echo(far))
        return near


class EchoVm(FakeVm):
    def guest(self, id: str) -> FakeGuest:
        return EchoGuest(self, id, self.instances[id].number)


async def _echo(stream: FakeStream) -> None:
    while data := await stream.read():
        await stream.write(data)


class Served(ServedDaemon):
    def make_world(self) -> World:
        return world_in(self.directory, more=Drivers({"echo": EchoVm}))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as daemon:
        daemon.create("desk", start=True, isolation="microvm")
        yield daemon


@contextmanager
def shows(daemon: Served, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    place = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(daemon.directory), "LANG": "C.UTF-8"} | environment
    process = subprocess.Popen(
        [*ISOLA, "console", "desk", "--type", "vga", *arguments],
        env=place, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def address(shown: subprocess.Popen[str]) -> Path:
    assert shown.stdout is not None and shown.stderr is not None
    line = shown.stdout.readline().strip()
    assert line.startswith("spice+unix:///"), shown.stderr.read()
    return Path(line.removeprefix("spice+unix://"))


def exchange(link: socket.socket, data: bytes) -> bytes:
    link.settimeout(30)
    link.sendall(data)
    heard = b""
    while len(heard) < len(data):
        heard += link.recv(65536)
    return heard


def test_without_a_desktop_it_prints_where_a_viewer_can_connect(daemon: Served) -> None:
    with shows(daemon) as shown:
        path = address(shown)
        assert path.parent.stat().st_mode & 0o077 == 0
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(str(path))
            assert exchange(first, b"REDQ") == b"REDQ"
            second.connect(str(path))
            block = bytes(range(256)) * 1000
            assert exchange(second, block) == block
            assert exchange(first, b"still here") == b"still here"
        shown.send_signal(signal.SIGINT)
        assert shown.wait(60) == 0
        assert not path.parent.exists()


def test_a_viewer_is_started_and_its_end_is_the_end(daemon: Served, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "remote-viewer").write_text(VIEWER.format(python=sys.executable))
    (programs / "remote-viewer").chmod(0o755)
    with shows(daemon, DISPLAY=":0", PATH=f"{programs}:{os.environ['PATH']}") as shown:
        assert shown.wait(60) == 7
        assert shown.stdout is not None and shown.stdout.read() == ""


def test_it_ends_with_the_instance_and_with_a_client_that_takes_over(daemon: Served) -> None:
    with shows(daemon) as first:
        address(first)
        with shows(daemon) as refused:
            assert refused.communicate(timeout=120)[1].startswith("Error: The screen of 'desk' is in use")
            assert refused.returncode == 1
        with shows(daemon, "--force") as second:
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(address(second)))
                assert exchange(link, b"REDQ") == b"REDQ"
            assert first.wait(60) == 0
            with daemon.client as client:
                client.instances.stop("desk", force=True).wait()
            assert second.wait(60) == 0
