"""System calls that a sandbox has refused: its kernel says them in its debug log, and nowhere else.

That log has a line or more for each file that is opened, so it is never written to a disk: it goes through a FIFO to a
small program of the instance, which counts the refusals and drops the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

FIFO, NOTED, READER = "debug.fifo", "refused", "refused.pid"
"""In the directory of the run."""
_END = b"end\n"
_MOST_READ = 1 << 20

# The reader has its end of the FIFO before anything writes to it, and the writing end stays open in the engine, so no
# moment is without either: an open would wait for ever. If the reader is killed, gVisor drops what it would log.
_NOTE = """\
fifo="$1" noted="$2" reader="$3" id="$4" program="$5"
shift 5
mkfifo -m 600 "$fifo" || exit 125
(
    cd / && exec <"$fifo" >"$noted" 2>/dev/null
    exec setpriv --reuid="$id" --regid="$id" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \\
        busybox awk "$program"
) &
echo "$!" >"$reader"
exec 9>"$fifo"
exec "$@"\
"""

# Names are given when a program is executed: what was only forked has none. Counts above 16 are written when they have
# grown by a quarter, so the file has some 100 lines for each of at most MOST calls and programs.
_COUNT = r"""
BEGIN { most = 32 }
index($0, "TaskExitZombie to TaskExitDead") { delete name[task($0)]; next }
index($0, "Set thread name to \"") {
    comm = $0
    sub(/.*Set thread name to "/, "", comm)
    sub(/"$/, "", comm)
    gsub(/[^A-Za-z0-9._+-]/, "?", comm)
    name[task($0)] = substr(comm, 1, 32)
    next
}
/\] Syscall -?[0-9]+: denied by seccomp$/ {
    call = $0
    sub(/: denied by seccomp$/, "", call)
    sub(/.* /, "", call)
    by = name[task($0)]
    what = call " " (by == "" ? "?" : by)
    if (!(what in count) && known++ >= most) next
    if (++count[what] < due[what]) next
    due[what] = count[what] < 16 ? count[what] + 1 : int(count[what] * 1.25)
    print what " " count[what]
    fflush()
}
END { print "end" }
function task(line) {
    sub(/^[^]]*\] \[ */, "", line)
    sub(/[^0-9].*/, "", line)
    return line
}
"""


def debugging(run: Path) -> list[str]:
    """Options of the engine: only the kernel logs, not the commands and the gofer."""
    return ["--debug", "--debug-command=boot", f"--debug-log={run / FIFO}"]


def noting(run: Path, id: int, argv: Sequence[str]) -> list[str]:
    """A command line that becomes ``argv``, with the reader beside it as this user of the host."""
    return ["/bin/sh", "-c", _NOTE, "sh", str(run / FIFO), str(run / NOTED), str(run / READER), str(id), _COUNT, *argv]


def is_whole(data: bytes) -> bool:
    """Whether the reader has come to the end of the log."""
    return data.endswith(_END)


def read(data: bytes) -> Mapping[tuple[int, str], int]:
    """How often each call of a program was refused; the last line may be incomplete."""
    found: dict[tuple[int, str], int] = {}
    for line in data[:_MOST_READ].split(b"\n")[:-1]:
        fields = line.decode("ascii", errors="replace").split(" ")
        if len(fields) == 3 and fields[0].lstrip("-").isdecimal() and fields[2].isdecimal():
            found[int(fields[0]), fields[1]] = int(fields[2])
    return found
