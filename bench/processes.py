"""Lists the processes in the namespace of a subject."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def processes() -> Iterator[tuple[int, str, str]]:
    """Every process: its id, its name, its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "comm").read_text().strip()
                command_line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if command_line:  # neither a zombie nor a kernel thread
                yield int(entry.name), name, command_line


def named(*names: str) -> list[int]:
    """Processes by name."""
    return [pid for pid, name, _ in processes() if name in names]


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def outside_containers() -> set[int]:
    """Processes in the subject's own PID namespace."""
    own = os.readlink("/proc/self/ns/pid")
    found = set()
    for pid, _, _ in processes():
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == own:
                found.add(pid)
    return found


def resident(pid: int, field: str = "Pss") -> float:
    """The proportional (``Pss``) or the whole (``Rss``) resident set of a process, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
