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
BODY = json.dumps({"type": "sync", "status": "Success", "status_code": 200, "metadata": []}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CODE = """
import sys
sys.path.insert(0, {source!r})
from isola.cli.main import run
status = run({argv!r})
print(*sys.modules, sep="\\n", file=sys.stderr)
sys.exit(status)
"""
SLOW = {"ssl", "typing", "dataclasses", "argparse", "asyncio", "re", "enum", "subprocess", "http", "urllib", "logging"}
"""Each costs more than 1 ms."""
ELSEWHERE = {"isola.client.tls", "isola.client.remotes", "isola.x509", "isola.client.websocket", "isola.client.events"}
"""What commands to other daemons need, and those that follow events."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A directory with a socket on which every request is answered with an empty list."""
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
                    while connection.recv(65536):
                        connection.sendall(ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        yield tmp_path
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


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


def test_a_list_imports_nothing_slow_and_nothing_for_other_daemons(daemon: Path) -> None:
    modules = imported(daemon, "list", "--format", "csv")
    assert "isola.client.instances" in modules
    assert modules & (SLOW | ELSEWHERE | {"isola.client.operations", "isola.errors"}) == set()


def test_help_imports_no_client(daemon: Path) -> None:
    assert {name for name in imported(daemon, "launch", "--help") if name.startswith("isola.client")} == set()


def test_the_check_sees_a_module_that_is_imported(daemon: Path) -> None:
    (daemon / "conf").mkdir()
    assert "isola.client.remotes" in imported(daemon, "list", "--dir", str(daemon), "--format", "csv")
