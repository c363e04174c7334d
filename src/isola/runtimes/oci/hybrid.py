"""Ways to show an engine a host that has cgroup v2 alone, where in truth it has both.

A mount namespace is a copy of all mounts, and holds them until its last process ends. That does not matter for the
moment in which a first process is made. A command may run for days: it gets a namespace made once, in which there is
next to nothing, so that roots of other instances can be unmounted meanwhile.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from isola.errors import HostFailure
from isola.host import Host
from isola.host.sockets import Stream
from isola.runtimes.oci.config import PATH
from isola.runtimes.oci.monitor import ENTER

# Bound, because the kernel takes ten milliseconds over another mount of cgroup2 by the host's root.
_COPY = f"""\
{ENTER.removesuffix('exec "$@"')}unified=$1
shift
mount --bind "$unified" /sys/fs/cgroup && exec "$@"\
"""

# The root file system without what is mounted on it, and the few things an engine needs to find a container again.
# The daemon's directory may lie on file systems of its own: they come one after the other, without what is on them.
# pivot_root with one place for both puts the old root on top of the new one, whence it is unmounted.
_SMALL = """\
set -e
mount --bind / "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --bind "$3" sys/fs/cgroup
for place in /usr /dev; do mount --bind "$place" ".$place"; done
set -f
IFS=/
place=
for part in ${2#/}; do
    place="$place/$part"
    ! mountpoint -q "$place" || mount --bind "$place" ".$place"
done
mount --bind "$2" ".$2"
pivot_root . .
umount --lazy .
echo ready
read -r _
"""
_PATIENCE = 10.0


def in_copy(groups: Sequence[Path], unified: Path, argv: Sequence[str]) -> list[str]:
    """A command line that enters control groups and runs ``argv`` in a copy of the host's mounts. Pure.

    ``unified`` is where the host has mounted cgroup v2.
    """
    alone = ["/usr/bin/unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", _COPY, "sh"]
    return [*alone, *map(str, groups), "--", str(unified), *argv]


class SmallWorld:
    """The namespace for commands: made when first asked for, gone with the daemon."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._lock = asyncio.Lock()
        self._held: Path | None = None

    async def file(self) -> Path:
        """Stands for the namespace, for ``nsenter``. Raises HostFailure."""
        async with self._lock:
            if self._held is None:
                self._held = await self._make()
            return self._held

    async def _make(self) -> Path:
        place = self._directory / "engine"
        await self._host.files.make_directory(place)
        sockets = self._host.sockets
        wait, report, stderr = sockets.pipe_to_child(), sockets.pipe_from_child(), sockets.pipe_from_child()
        script = ["/bin/sh", "-c", _SMALL, "sh", str(place), str(self._directory), str(self._host.cgroups.unified)]
        try:
            child = await self._host.processes.spawn(
                ["unshare", "--mount", "--propagation", "private", *script],
                stdin=wait.remote,
                stdout=report.remote,
                stderr=stderr.remote,
                env={"PATH": PATH},
            )
            for pipe in (wait, report, stderr):
                pipe.close_remote()
            try:
                await _ready(report.stream, stderr.stream)
                return self._host.namespaces.hold_mounts(child.ref)
            finally:
                child.signal(signal.SIGKILL)
                await child.wait()
        finally:
            for pipe in (wait, report, stderr):
                pipe.close_remote()
                pipe.stream.close()


async def _ready(report: Stream, stderr: Stream) -> None:
    async with asyncio.timeout(_PATIENCE):
        if not await report.read():
            evidence = (await stderr.read()).decode(errors="replace").strip()
            raise HostFailure("The mount namespace for commands could not be made", evidence=evidence)
