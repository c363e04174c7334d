"""The shell scripts between the monitor and runsc. Pure."""

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

# runsc restores in one command, which creates the sandbox, writes the PID file and continues the programs. The monitor
# asks for a sandbox that waits, so the PID file is a FIFO: the command waits there until it is read.
_RESTORE = """\
images="$1" hold="$2" result="$3" state="$4" pid_file=
shift 4
left=$#
while [ "$left" -gt 0 ]; do
    word="$1"
    shift
    left=$((left - 1))
    case "$word" in
    create) set -- "$@" restore --detach --image-path "$images" ;;
    --pid-file)
        pid_file="$1"
        shift
        left=$((left - 1))
        set -- "$@" --pid-file "$hold"
        ;;
    *) set -- "$@" "$word" ;;
    esac
done
mkfifo -m 600 "$hold" "$result" || exit 125
exec 3<&0
(
    "$@" <&3 3<&-
    status=$?
    [ ! -e "$pid_file" ] || echo "$status" >"$result"
    exit "$status"
) &
child=$!
while :; do
    pid=$(sed -n 's/.*"pid":\\([1-9][0-9]*\\).*/\\1/p' "$state"/*.state 2>/dev/null)
    [ -z "$pid" ] || break
    kill -0 "$child" 2>/dev/null || exit 1
    sleep 0.01
done
echo "$pid" >"$pid_file"\
"""
_LET_GO = 'cat "$1" >/dev/null && read -r status <"$2" && exit "$status"'
HOLD, RESULT = "restore.hold", "restore.result"


def creating(name: str, groups: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """A command line to which the monitor adds ``create ... ID``."""
    return ["/bin/sh", "-c", _CREATE, "sh", name, *map(str, groups), "--", *argv]


def restoring(images: Path, run: Path, state: Path, argv: Sequence[str]) -> list[str]:
    """The same for a sandbox that continues from images, when ``letting_go`` is run."""
    return ["/bin/sh", "-c", _RESTORE, "sh", str(images), str(run / HOLD), str(run / RESULT), str(state), *argv]


def letting_go(run: Path) -> list[str]:
    """A command line that ends with the status of the restore."""
    return ["/bin/sh", "-c", _LET_GO, "sh", str(run / HOLD), str(run / RESULT)]
