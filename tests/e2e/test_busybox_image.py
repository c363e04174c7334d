"""The image source ``busybox``: launched by name, on the network, exported to two files and imported again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli
from waiting import until

_LINKS_TO_NOTHING = """
busybox --list >/tmp/applets
for link in /bin/*; do
    [ -h "$link" ] && { grep -qxF "${link##*/}" /tmp/applets || echo "$link"; }
done
ls /bin/httpd >/dev/null
"""


@pytest.fixture
def launched(isola: Cli) -> Iterator[float]:
    """An instance ``bb1`` of an image that did not exist before, and the seconds that the launch took."""
    begun = time.monotonic()
    isola("launch", "busybox", "bb1")
    yield time.monotonic() - begun
    isola("delete", "--force", "bb1", check=False)
    isola("image", "delete", "busybox", check=False)


def test_it_is_launched_quickly_and_gets_its_address(isola: Cli, launched: float) -> None:
    assert launched < 60  # a second on an idle machine
    assert isola("exec", "bb1", "--", "hostname").stdout == "bb1\n"
    until(lambda: "inet " in isola("exec", "bb1", "--", "ip", "-4", "addr", "show", "eth0").stdout, 20)
    assert "default via" in isola("exec", "bb1", "--", "ip", "route").stdout
    assert isola("exec", "bb1", "--", "sh", "-c", _LINKS_TO_NOTHING).stdout == ""
    assert isola("exec", "bb1", "--", "ping", "-c", "1", "-W", "5", "bb1").returncode == 0
    isola("stop", "bb1", "--timeout", "10")


def test_it_is_exported_to_two_files_and_imported_again(isola: Cli, launched: float, tmp_path: Path) -> None:
    fingerprint = json.loads(isola("image", "info", "busybox", "--format", "json").stdout)["fingerprint"]
    isola("image", "export", "busybox", f"{tmp_path}/bb")
    metadata, root = sorted(tmp_path.iterdir(), key=lambda path: ".meta-" not in path.name)
    assert (metadata.name, root.name) == (f"bb.meta-{fingerprint}.tar.gz", f"bb.{fingerprint}.tar.zst")
    isola("image", "delete", "busybox")
    isola("image", "import", str(metadata), str(root), "--alias", "busybox")
    assert json.loads(isola("image", "info", "busybox", "--format", "json").stdout)["fingerprint"] == fingerprint
