"""A release of Debian that the mirror does not have: the build fails and says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon

NAMES = {"11": "bullseye", "sid": "sid"}
_EMPTY = """
import http.server, sys
class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[1], "a") as asked:
            print(self.path, file=asked)
        self.send_error(404)
    def log_message(self, *about):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Empty)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def mirror(daemon: Daemon, tmp_path: Path) -> Iterator[str]:
    """The address of a mirror without any release, beside the daemon."""
    argv = ["nsenter", f"--net=/run/netns/{daemon.netns}", sys.executable, "-c", _EMPTY, str(tmp_path / "asked")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/debian"
        finally:
            server.kill()


@pytest.mark.parametrize("release", NAMES)
def test_a_release_that_the_mirror_lacks_is_named(
    daemon: Daemon, isola: Cli, mirror: str, tmp_path: Path, release: str
) -> None:
    name, before = NAMES[release], daemon.get("/1.0/images")
    done = isola("image", "build", f"debian/{release}", "-o", f"mirror={mirror}", check=False)
    assert done.returncode == 1 and f"{mirror} {name} Release' does not have a Release file" in done.stderr
    assert "Hint: check that the mirror is reachable and has the release" in done.stderr
    assert f"/debian/dists/{name}/Release" in (tmp_path / "asked").read_text().split()
    assert daemon.get("/1.0/images") == before
