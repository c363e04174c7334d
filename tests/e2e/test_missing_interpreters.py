"""A system whose init cannot be executed: the start fails, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon

from isola.instances.interpreters import interpreter_of

LINKED = Path("/bin/true").read_bytes()
INITS = {
    "a script": (b"#!/lib/absent -x\n", "there is no /lib/absent, the interpreter of /sbin/init"),
    "linked": (LINKED, f"there is no {interpreter_of(LINKED)}, the interpreter of /sbin/init"),
}


@pytest.mark.parametrize("isolation", ["container", "sandbox"])
@pytest.mark.parametrize("init", INITS)
def test_a_start_without_the_interpreter_of_its_init_fails(
    daemon: Daemon, isola: Cli, isolation: str, init: str
) -> None:
    content, missing = INITS[init]
    source = {"type": "image", "alias": "tiny"}
    daemon.run("POST", "/1.0/instances", {"name": "headless", "source": source, "isolation": isolation})
    try:
        place = "/1.0/instances/headless/files?path=/sbin/init"
        daemon.request("DELETE", place)
        daemon.request("POST", place, content, headers={"X-LXD-mode": "0755"})
        done = isola("start", "headless", check=False)
        assert done.returncode == 1 and missing in done.stderr
        assert "Hint: repair the root" in done.stderr, done.stderr
        assert daemon.status("headless") == "Stopped"
    finally:
        daemon.run("DELETE", "/1.0/instances/headless?force=1")
