"""The processes of an instance, as the host's ``ps`` shows them, or the kernel of its own that it has."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from isola.errors import CommandFailed, InvalidInput, Unsupported
from isola.instances.context import Context
from isola.instances.ps_options import without_choice
from isola.instances.running import require_live
from isola.model.instance import Instance
from isola.model.stats import ProcessTable
from isola.runtimes import Listing

_ARGUMENT = re.compile(r"[-A-Za-z0-9,=_.:%+]{1,200}", re.ASCII)
_MOST_ARGUMENTS = 32
_OTHERS = "use other options: these choose processes, and those of the instance are shown"
_PLAIN = frozenset({("-ef",), ("aux",), ("-e",)})
"""Options that ask for no particular columns."""
_QUICK = "quick-pid"
"""In its refusal of what it does not take together with ``-q``."""
_BY_PID = 200
"""Most processes that are named to one ``ps``, which ends with an error if they are 256."""


async def processes(context: Context, instance: Instance, arguments: Sequence[str]) -> ProcessTable:
    """``arguments``: of ``ps``; they must leave the column of PIDs. Raises WrongState, InvalidInput, Unsupported."""
    live = require_live(context, instance)
    if len(arguments) > _MOST_ARGUMENTS or not all(map(_ARGUMENT.fullmatch, arguments)):
        raise InvalidInput(
            "These are not options of ps", field="ps_args", remedy="use options such as aux or -o pid,comm"
        )
    if isinstance(live.guest, Listing):
        if arguments and tuple(arguments) not in _PLAIN:
            raise Unsupported(
                "The processes of this instance are listed by a kernel of its own, without options of ps",
                field="ps_args",
                remedy="leave them out, or run ps inside",
            )
        return await live.guest.process_table()
    pids = live.guest.numbers()
    if not pids:
        raise Unsupported("This instance has a kernel of its own", remedy="run ps inside")
    if context.host.system.find_program("ps") is None:
        raise Unsupported("The host has no ps", remedy="install the package procps")
    return table(await _ps(context, arguments or ("-ef",), pids), {str(pid) for pid in pids})


async def _ps(context: Context, arguments: Sequence[str], pids: Collection[int]) -> str:
    """Of these processes alone: options can give another column the title PID, and so choose rows of others."""
    found: list[str] = []
    for some in batched(sorted(pids), _BY_PID):
        lines, output = await _called(context, *arguments, f"-q{','.join(map(str, some))}")
        if not lines and _QUICK in output and (kept := without_choice(arguments)) is not None:
            lines, output = await _called(context, *kept, f"-p{','.join(map(str, sorted(pids)))}")
            return "\n".join(_titled(lines, output))
        found += _titled(lines, output)[1 if found else 0 :]
    return "\n".join(found)


async def _called(context: Context, *arguments: str) -> tuple[list[str], str]:
    """What it has written to stdout, as lines, and to stderr."""
    try:
        done = await context.host.processes.run(["ps", *arguments], timeout=10, check=False)
    except CommandFailed as error:
        raise InvalidInput("ps has failed", field="ps_args", remedy=error.evidence or _OTHERS) from error
    return done.stdout.decode(errors="replace").splitlines(), done.stderr.decode(errors="replace").strip()


def _titled(lines: list[str], output: str) -> list[str]:
    if not lines:  # without any of the processes there are the titles
        raise InvalidInput("ps has failed", field="ps_args", remedy=_OTHERS if _QUICK in output else output or _OTHERS)
    return lines


def batched(numbers: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """In pieces of at most so many numbers. Pure."""
    return (numbers[at : at + most] for at in range(0, len(numbers), most))


def table(text: str, pids: Collection[str]) -> ProcessTable:
    """The rows of these processes. Raises InvalidInput if there is no column of PIDs. Pure."""
    lines = text.splitlines()
    titles = tuple(lines[0].split()) if lines else ()
    if "PID" not in titles:
        raise InvalidInput("The options of ps leave out the PID", field="ps_args", remedy="add the column pid")
    column = titles.index("PID")
    rows = (tuple(line.split(None, len(titles) - 1)) for line in lines[1:])
    return ProcessTable(titles, tuple(row for row in rows if len(row) > column and row[column] in pids))
