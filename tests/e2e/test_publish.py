"""Images made of instances, by ``isola`` and by Debian's ``lxc``, on all storage drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import settled
from command import Cli
from lxc_client import Lxc

SCRIPT = (
    "echo changed >/etc/hostname.published && rm /etc/os-release && mkdir -p /srv/deep && echo x >/srv/deep/file"
    " && chown 7:8 /srv/deep && chmod 2750 /srv/deep && ln -s file /srv/deep/link"
)


@pytest.fixture(params=["overlay", "btrfs", "dir"])
def pool(request: pytest.FixtureRequest, isola: Cli) -> Iterator[str]:
    name = f"published-{request.param}"
    isola("storage", "create", name, request.param)
    yield name
    isola("storage", "delete", name)


def test_a_running_instance_becomes_an_image_with_its_changes(isola: Cli, lxc: Lxc, pool: str) -> None:
    isola("launch", "tiny", "origin", "--storage", pool)
    isola("exec", "origin", "--", "sh", "-c", "sleep 1000 & echo $! >/pid")
    isola("exec", "origin", "--", "sh", "-c", SCRIPT)
    isola("publish", "origin", "--alias", "mine", "--change", "ENV MODE=fast", "--message", "why", "--author", "me")
    isola("exec", "origin", "--", "sh", "-c", "kill -0 $(cat /pid)")  # it still runs
    for pool_of_copy in (pool, "default"):
        isola("launch", "mine", "copy", "--storage", pool_of_copy)
        seen = isola(
            "exec", "copy", "--", "sh", "-c", "stat -c %u:%g:%a /srv/deep; cat /srv/deep/link; echo $MODE"
        ).stdout
        assert seen.split() == ["7:8:2750", "x", "fast"]
        assert isola("exec", "copy", "--", "test", "-e", "/etc/os-release", check=False).returncode == 1
        isola("delete", "-f", "copy")
    isola("delete", "-f", "origin")
    isola("launch", "mine", "copy", "--storage", pool)  # its layers are the image's own now
    assert isola("exec", "copy", "--", "cat", "/etc/hostname.published").stdout == "changed\n"
    isola("delete", "-f", "copy")
    isola("image", "delete", "mine")
    assert not settled(isola.daemon)


def test_lxc_publishes_an_instance_and_a_snapshot(lxc: Lxc, instance: str, tmp_path: Path) -> None:
    lxc("exec", instance, "--", "sh", "-c", "echo one >/state")
    lxc("snapshot", instance, "s0")
    lxc("exec", instance, "--", "sh", "-c", "echo two >/state")
    lxc("publish", f"{instance}/s0", "--alias", "then", "description=as it was")
    lxc("publish", instance, "--alias", "now", "--force")
    assert "as it was" in lxc("image", "list")
    for alias, state in (("then", "one\n"), ("now", "two\n")):
        lxc("launch", alias, "copy")
        assert lxc("exec", "copy", "--", "cat", "/state") == state
        lxc("delete", "--force", "copy")
        lxc("image", "export", alias, str(tmp_path / alias))  # which compares the fingerprint
        lxc("image", "delete", alias)
    (exported,) = tmp_path.glob("now*")
    lxc("image", "import", str(exported), "--alias", "back")
    lxc("launch", "back", "copy")
    assert lxc("exec", "copy", "--", "cat", "/state") == "two\n"
    lxc("delete", "--force", "copy")
    lxc("image", "delete", "back")
    assert not settled(lxc.daemon)
