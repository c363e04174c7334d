"""Waiting until a systemd guest is ready, in the same way for all subjects and without their command lines."""

import subprocess
from pathlib import Path

from bench.shell import Trouble, until


def guest_inits() -> list[int]:
    """Processes named systemd with PID 1 in a PID namespace below this one, newest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
        except OSError:
            continue
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        inner = fields.get("NSpid", "").split()
        if fields.get("Name") == "systemd" and len(inner) > 1 and inner[-1] == "1":
            found.append(int(entry.name))
    return sorted(found, reverse=True)


def wait_ready(known: set[int], seconds: float = 60) -> int:
    """Wait until a guest that is not in ``known`` reports ``running``; returns its first process."""
    for _ in until(seconds):
        for pid in guest_inits():
            if pid not in known and (state := _state(pid)):
                if state != "running":
                    raise Trouble(
                        f"the guest's systemd says {state}: {_inside(pid, 'systemctl', '--failed', '--plain')}"
                    )
                return pid
    raise AssertionError


def _state(pid: int) -> str:
    said = _inside(pid, "systemctl", "is-system-running", "--wait").strip()
    return said if said in ("running", "degraded", "maintenance") else ""


def _inside(pid: int, *argv: str) -> str:
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-a", "-r", "-w", "-S", "0", "-G", "0", "--", *argv],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    return done.stdout
