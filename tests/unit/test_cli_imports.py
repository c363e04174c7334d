"""A command on the daemon's socket starts fast because it imports little."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys
sys.path.insert(0, {source!r})
from isola.cli.main import run
status = run({argv!r})
print(*sys.modules, sep="\\n", file=sys.stderr)
sys.exit(status)
"""
SLOW = {
    "argparse", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "http", "importlib", "json",
    "logging", "os", "re", "socket", "ssl", "subprocess", "typing", "urllib", "warnings",
}  # fmt: skip
"""Each costs 0.3 ms or more, most of them several."""
ELSEWHERE = {"isola.client.tls", "isola.client.remotes", "isola.x509", "isola.client.websocket", "isola.client.events"}
"""Modules for remote daemons and for events."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A directory with a socket; every request gets an object that is empty except for its status.

    As a list it is empty; as an operation it is running until a client waits for it.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "unix.socket"))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    while request := connection.recv(65536):
                        connection.sendall(answer(b"/wait " in request, changes=not request.startswith(b"GET")))

        thread = threading.Thread(target=serve)
        thread.start()
        yield tmp_path
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def answer(ended: bool, *, changes: bool) -> bytes:
    metadata = {"id": "1", "status_code": 200 if ended else 103} if changes or ended else {}
    operation = "/1.0/operations/1" if changes else ""
    body = json.dumps({"type": "async" if changes else "sync", "operation": operation, "metadata": metadata}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def imported(daemon: Path, *argv: str) -> set[str]:
    """Modules that a command has imported when it ends."""
    code = CODE.format(source=str(ROOT / "src"), argv=list(argv))
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
        env={"ISOLA_DIR": str(daemon), "ISOLA_CONF": str(daemon / "conf"), "HOME": str(daemon)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    "line",
    [
        "list", "start we", "stop we --force", "restart we", "pause we", "resume we", "delete we", "rename we you",
        "create tiny we", "launch tiny we", "version", "info we", "info", "copy we you", "snapshot create we",
        "config set we user.a=b", "config show we", "config device add we x none", "network list", "profile list",
        "project list", "storage list", "image list", "operation list",
    ],
)  # fmt: skip
def test_a_command_imports_nothing_slow_and_nothing_for_other_daemons(daemon: Path, line: str) -> None:
    modules = imported(daemon, *line.split())
    assert "isola.client.api" in modules
    assert modules & (SLOW | ELSEWHERE | {"isola.errors"}) == set()


def test_a_list_imports_nothing_slow_and_nothing_for_other_daemons(daemon: Path) -> None:
    modules = imported(daemon, "list", "--format", "csv")
    assert "isola.client.instances" in modules
    assert modules & (SLOW | ELSEWHERE | {"isola.client.operations", "isola.errors"}) == set()


def test_help_imports_no_client(daemon: Path) -> None:
    assert {name for name in imported(daemon, "launch", "--help") if name.startswith("isola.client")} == set()


def test_the_check_sees_a_module_that_is_imported(daemon: Path) -> None:
    (daemon / "conf").mkdir()
    assert "isola.client.remotes" in imported(daemon, "list", "--dir", str(daemon), "--format", "csv")
