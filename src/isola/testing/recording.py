"""Recordings and refusals of system calls, as a test sets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import Unsupported
from isola.host.process import ProcessRef
from isola.host.recording import Recording
from isola.host.refusals import Refusal
from isola.model.identity import IdRange
from isola.model.recorded import Recorded


@dataclass
class FakeRecording:
    """What a test says has been seen."""

    recorder: FakeRecorder
    ids: IdRange

    followed: list[tuple[ProcessRef | None, Path | None]] = field(default_factory=list)

    async def follow(self, process: ProcessRef | None, group: Path | None) -> None:
        self.followed.append((process, group))

    async def read(self) -> Recorded:
        return self.recorder.seen

    def close(self) -> None:
        self.recorder.open.remove(self)


@dataclass
class FakeRecorder:
    """Every recording sees the same."""

    seen: Recorded = field(default_factory=Recorded)
    ports: frozenset[str] = frozenset()
    refuses: str = ""
    """Why nothing can be recorded."""
    open: list[FakeRecording] = field(default_factory=list)

    async def record(self, ids: IdRange) -> Recording:
        if self.refuses:
            raise Unsupported(self.refuses)
        made = FakeRecording(self, ids)
        self.open.append(made)
        return made

    async def listening(self, process: ProcessRef) -> frozenset[str]:
        return self.ports


@dataclass
class FakeRefusals:
    """The test refuses calls by ``refuse``."""

    unsupported: str = ""
    listeners: list[Callable[[Refusal], None]] = field(default_factory=list)

    async def listen(self, report: Callable[[Refusal], None]) -> Callable[[], None]:
        if self.unsupported:
            raise Unsupported(self.unsupported)
        self.listeners.append(report)
        return lambda: self.listeners.remove(report)

    def refuse(self, uid: int, call: int, program: str = "/bin/app") -> None:
        """As the kernel reports it."""
        for report in list(self.listeners):
            report(Refusal(uid, 4711, program.rpartition("/")[2], program, call, native=True))
