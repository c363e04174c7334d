"""What the kernel counts per user: an instance can use up its own share, and root's is as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kernel_counts

EVERY_ID = "0 0 4294967295"
OWN = 1
"""The user namespace itself counts, too."""


def counted() -> dict[str, list[int]]:
    """The kinds of objects that this kernel counts, with how many of each could be made inside and by root."""
    argv = (sys.executable, kernel_counts.__file__)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "in\n"
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text(EVERY_ID)
        out, _ = process.communicate("go\n", timeout=60)
    found: dict[str, list[int]] = json.loads(out)
    return found


def test_no_count_of_the_kernel_is_shared_with_root() -> None:
    found = counted()
    assert {"user_namespaces", "pid_namespaces", "net_namespaces", "inotify_watches"} <= found.keys()
    for kind, (inside, by_root) in found.items():
        own = OWN if kind == "user_namespaces" else 0
        assert (inside, by_root) == (kernel_counts.MOST - own, kernel_counts.MOST), kind
