"""The processes on the host that make up a running instance."""

from __future__ import annotations

import json
from pathlib import Path

from daemon import Daemon


def parts(daemon: Daemon, name: str) -> dict[str, int]:
    """PIDs by what they are; of a container, a sandbox or a virtual machine."""
    run = _run_of(daemon, name)
    found = {part: entry[0] for part, entry in _recorded(run).items() if isinstance(entry, list)}
    for state in (run / "state").glob("*.state"):
        found["gofer"] = int(json.loads(state.read_text())["goferPid"])
    return found


def _run_of(daemon: Daemon, name: str) -> Path:
    pid = daemon.pid(name)
    for run in (daemon.directory / "run").iterdir():
        if any(entry[0] == pid for entry in _recorded(run).values() if isinstance(entry, list)):
            return run
    raise AssertionError(f"{name} does not run")


def _recorded(run: Path) -> dict[str, object]:
    try:
        found = json.loads((run / "running.json").read_text())
    except FileNotFoundError:
        return {}
    assert isinstance(found, dict)
    return found
