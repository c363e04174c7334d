"""File verbs that only ``incus`` has; collected if it is installed."""

from __future__ import annotations

from pathlib import Path

from daemon import Daemon
from incus_client import Incus


def test_incus_creates_and_deletes(daemon: Daemon, instance: str, tmp_path: Path) -> None:
    incus = Incus(daemon, tmp_path)
    incus("file", "create", f"{instance}/made/there", "-p", "--type", "directory", "--mode", "0750")
    incus("file", "create", f"{instance}/made/file", "--uid", "7")
    incus("file", "create", f"{instance}/made/link", "../etc/hostname", "--type", "symlink")
    shown = daemon.exec(instance, "sh", "-c", "cd /made; stat -c %a there; stat -c %u:%s file; readlink link")[1]
    assert shown == "750\n7:0\n../etc/hostname\n"
    incus("file", "delete", f"{instance}/made", status=1)
    incus("file", "delete", "-f", f"{instance}/made")
    assert daemon.exec_status(instance, "test", "-e", "/made") == 1
