"""The shell script between the monitor and runsc. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# It enters the control groups, as monitor.ENTER does, and replaces the last argument, the monitor's name of the
# instance, by one that no other sandbox on the host has: old versions make an abstract socket of it.
_CREATE = """\
name="$1"
shift
while [ "$1" != -- ]; do
    file="$1/tasks"
    [ -e "$file" ] || file="$1/cgroup.procs"
    echo 0 >"$file" || exit 125
    shift
done
shift
left=$#
while [ "$left" -gt 1 ]; do
    set -- "$@" "$1"
    shift
    left=$((left - 1))
done
shift
exec "$@" "$name"\
"""


def creating(name: str, groups: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """A command line to which the monitor adds ``create ... ID``."""
    return ["/bin/sh", "-c", _CREATE, "sh", name, *map(str, groups), "--", *argv]
