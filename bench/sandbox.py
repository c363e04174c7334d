"""Namespaces for a subject: network, mounts and processes. All effects in them end with it.

The process namespace is ended with its first process, so nothing a subject starts can outlive its turn; the mount
namespace gets a /sys that belongs to the network namespace, and empty directories where daemons keep global state.
"""

import contextlib
import fnmatch
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.shell import run

ENTER = (
    "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--",
)  # fmt: skip

HIDDEN = ("/run", "/var/lib/cni", "/var/lib/lxc", "/var/lib/lxcfs", "/var/cache/lxc", "/var/log/lxc", "/etc/cni/net.d")
CGROUPS = Path("/sys/fs/cgroup")
CLAIMS = Path("/var/lib/isola-ids")


def spawn(module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[str]:
    """Start a Python module in new namespaces, connected by pipes."""
    with log.open("a") as sink:
        return subprocess.Popen(
            [*ENTER, sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, text=True, start_new_session=True,
        )  # fmt: skip


def settle(directory: Path) -> None:
    """Called first inside: loopback up, a matching /sys, and no state of the host visible."""
    keep = directory / "cgroup"
    keep.mkdir(parents=True)
    run(["ip", "link", "set", "lo", "up"])
    run(["mount", "--rbind", str(CGROUPS), str(keep)])
    run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    run(["mount", "--rbind", str(keep), str(CGROUPS)])
    run(["umount", "-l", str(keep)])
    keep.rmdir()
    for place in HIDDEN:
        if Path(place).is_dir():
            run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place])
    Path("/run/lock").mkdir()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def become_init() -> None:
    """Stay as the first process of the namespace, which reaps orphans; return in a child that does the work."""
    child = os.fork()
    if child == 0:
        return
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def cgroup_tops(root: Path = CGROUPS) -> frozenset[Path]:
    """The control groups right below the root of any hierarchy."""
    hierarchies = [path for path in (root, *root.iterdir()) if (path / "cgroup.procs").exists()]
    return frozenset(top for hierarchy in hierarchies for top in hierarchy.iterdir() if top.is_dir())


def remove_cgroups(patterns: Sequence[str], before: frozenset[Path], root: Path = CGROUPS) -> list[str]:
    """Remove a subject's control groups; returns those that could not be removed.

    Others live on this host too. What was there ``before`` the subject was started is never touched, and a pattern must
    name nothing that another program, or another isola daemon, could create meanwhile.
    """
    left: list[str] = []
    # Killed processes need a moment to exit.
    for _ in range(50):
        ours = [top for top in cgroup_tops(root) - before if any(fnmatch.fnmatchcase(top.name, p) for p in patterns)]
        left = [path for top in ours for path in _remove_tree(top)]
        if not left:
            break
        time.sleep(0.1)
    return left


def remove_claims(place: Path, claims: Path = CLAIMS) -> None:
    """Give up the ranges of user ids that a daemon in this directory has claimed; all its processes have ended."""
    for claim in claims.iterdir() if claims.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # of other daemons, which go on
            if Path(os.readlink(claim)).is_relative_to(place):
                claim.unlink()


def _remove_tree(top: Path) -> list[str]:
    left = []
    for path, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError:
            left.append(path)
    return left
