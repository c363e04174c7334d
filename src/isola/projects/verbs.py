"""Operations on projects."""

from __future__ import annotations

from isola.model.caller import DAEMON, Caller
from isola.model.reference import Entity, Kind
from isola.operations import Operation, Operations
from isola.projects.projects import Projects


def start_rename(
    projects: Projects, operations: Operations, name: str, new: str, *, caller: Caller = DAEMON
) -> Operation:
    """Rename an empty project, with locks on both names."""
    before, after = (Entity.of_host(Kind.PROJECT, each) for each in (name, new))

    async def work(op: Operation) -> None:
        await op.commit(lambda: projects.rename(name, new, caller=caller))

    return operations.start("Renaming project", work, locks=[before.lock, after.lock], resources=[after], caller=caller)
