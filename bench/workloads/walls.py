"""What each wall costs: its start, memory, system calls, writes and network, beside what it is made of, run alone."""

from typing import Any, ClassVar

from bench.processes import processes, resident
from bench.workload import Workload, milliseconds
from bench.workloads.ports import rate

ORDER = 55
FLOORS = {"container": "runc", "sandbox": "runsc", "microvm": "qemu", "vm": "", "unikernel": "qemu"}
"""What a wall is made of. Plain QEMU is not compared with virtual machines: what their firmware does is most of it."""
NAME = "bench-wall"
_REACH = 1.15
_CALLS = 100_000
_MIB = 64


class OfWall(Workload):
    """One instance behind one wall."""

    wall: ClassVar[str]
    what: ClassVar[str]
    short: ClassVar[str]
    count: ClassVar[int] = 1

    def prepare(self, subject: Any) -> None:
        """Start it, or several."""
        for number in range(self.count):
            self.start(subject, f"{NAME}{number}")

    def start(self, subject: Any, name: str) -> None:
        """Until its program has begun."""
        getattr(subject, f"start_{self.wall}")(name)

    def finish(self, subject: Any) -> None:
        """Remove them."""
        for number in range(self.count):
            subject.end_wall(f"{NAME}{number}")

    def seconds(self, subject: Any, *argv: str) -> float:
        """How long a command inside takes beyond one that does nothing."""
        nothing = milliseconds(lambda: subject.inside(f"{NAME}0", "/bin/busybox", "true"))
        return max(1e-6, (milliseconds(lambda: subject.inside(f"{NAME}0", "/bin/busybox", *argv)) - nothing) / 1000)


class Boot(OfWall):
    """From the request to the first instruction of the program; removal is not timed."""

    what, short = "Start until the program runs", "boot"
    samples = 3

    def prepare(self, subject: Any) -> None:
        """Nothing runs before."""

    def sample(self, subject: Any) -> float:
        """Start one."""
        subject.make_wall(self.wall, f"{NAME}0")
        try:
            return milliseconds(lambda: self.start(subject, f"{NAME}0"))
        finally:
            subject.end_wall(f"{NAME}0")

    def finish(self, subject: Any) -> None:
        """Nothing is left."""


class Memory(OfWall):
    """All processes on the host that came with it, its program and guest included."""

    what, short, unit = "Host memory with one program (PSS)", "memory", "MiB"
    warm_up = False

    def prepare(self, subject: Any) -> None:
        """Take stock first."""
        self.before = {pid for pid, _, _ in processes()}
        super().prepare(subject)

    def sample(self, subject: Any) -> float:
        """On average."""
        found = {pid for pid, _, _ in processes()} - self.before
        return sum(resident(pid) for pid in found) / self.count


class MemoryOfTwenty(Memory):
    """Code is shared, so each costs less."""

    what, short = "Host memory for each of 20 programs (PSS)", "memory-20"
    count = 20


class SystemCalls(OfWall):
    """Reads and writes of one byte, which do nothing else."""

    what, short, unit = "One system call", "syscall", "us"

    def sample(self, subject: Any) -> float:
        """On average."""
        argv = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={_CALLS}")
        return self.seconds(subject, *argv) * 1_000_000 / (2 * _CALLS)


class Writes(OfWall):
    """A file in its root, until it is on the disk."""

    what, short, unit = "Writing to the root, with fsync", "write", "MiB/s"
    more_is_better = True

    def sample(self, subject: Any) -> float:
        """Over what is there."""
        argv = ("dd", "if=/dev/zero", "of=/bench-file", "bs=1M", f"count={_MIB}", "conv=fsync")
        return _MIB / self.seconds(subject, *argv)


class Network(OfWall):
    """From the host, over the bridge, to a program that reads."""

    what, short, unit = "Data to an instance over the bridge", "network", "MiB/s"
    more_is_better = True

    def start(self, subject: Any, name: str) -> None:
        """It reads all that is sent to its port 80."""
        subject.serve_wall(self.wall, name)

    def sample(self, subject: Any) -> float:
        """One connection."""
        return rate(subject.wall_address(f"{NAME}0"), 80)


_EVERYWHERE = (Boot, Memory)
_OF_PROGRAMS = (*_EVERYWHERE, MemoryOfTwenty, SystemCalls, Writes, Network)
"""Not of guests in which no command can be started, or which are too large here to run twenty of them."""
KINDS: dict[str, tuple[type[OfWall], ...]] = {"vm": _EVERYWHERE, "unikernel": (*_EVERYWHERE, MemoryOfTwenty)}


def _of(kind: type[OfWall], wall: str) -> type[OfWall]:
    reach = 1 / _REACH if kind.more_is_better else _REACH
    # QEMU by itself has no root on a disk; the engines have no network.
    alone = not FLOORS[wall] or kind is Network or (kind is Writes and wall == "microvm")
    needs = [f"start_{wall}", "end_wall"]
    needs += ["inside"] if kind in (SystemCalls, Writes) else []
    needs += ["writes_to_disk"] if kind is Writes else []
    needs += ["serve_wall"] if kind is Network else []
    return type(
        f"{kind.__name__}Of{wall.title()}",
        (kind,),
        {
            "__doc__": kind.__doc__,
            "wall": wall,
            "name": f"wall-{kind.short}-{wall}",
            "title": f"{kind.what}: {wall}",
            "needs": tuple(needs),
            # Firmware that is emulated takes a minute on a busy host.
            "samples": 1 if wall == "vm" else kind.samples,
            "warm_up": kind.warm_up and wall != "vm",
            "alone": alone,
            "targets": {} if alone else {FLOORS[wall]: round(reach, 2)},
        },
    )


WORKLOADS = tuple(_of(kind, wall) for wall in FLOORS for kind in KINDS.get(wall, _OF_PROGRAMS))
