"""Methods of the agent, operations of its workers, and bodies that several of them have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from isola.runtimes.agent.body import Writer
from isola.runtimes.oci.config import environment
from isola.runtimes.spec import ExecSpec


class Method(IntEnum):
    """Methods of requests."""

    PING = 1
    PREPARE = 2
    EXEC = 3
    START = 4
    WORKER = 5
    STATS = 6
    INTERFACES = 7
    CONFIGURE = 8
    PROCESSES = 9
    SIGNAL = 10
    STOP = 11
    CLOCK = 12
    IDENTITY = 13
    POWER = 14
    RESIZE = 15


STREAMS = frozenset({Method.EXEC, Method.WORKER})
"""Methods whose streams carry data after the answer."""


class Work(IntEnum):
    """Operations of a worker."""

    STAT = 1
    OPEN = 2
    READ = 3
    WRITE = 4
    CLOSE = 5
    HANDLE_STAT = 6
    HANDLE_CHANGE = 7
    HANDLE_SYNC = 8
    HANDLE_SPACE = 9
    LIST = 10
    DRAFT = 11
    COMMIT = 12
    MAKE_DIRECTORY = 13
    MAKE_SYMLINK = 14
    REMOVE = 15
    TARGET = 16
    CHANGE = 17
    RENAME = 18
    LINK = 19
    SPACE = 20
    MOUNT = 30
    UNMOUNT = 31
    SYNC = 32
    FREEZE = 33
    THAW = 34
    SYSCTL = 35
    CPUS = 36


@dataclass(frozen=True, slots=True)
class GuestMount:
    """A mount inside, by the guest's own kernel."""

    source: str
    """A virtiofs tag, a device, or a path inside."""
    target: str
    kind: str
    flags: int = 0
    """Of mount(2)."""
    options: str = ""


def write_mount(writer: Writer, mount: GuestMount) -> None:
    writer.text(mount.source).text(mount.target).text(mount.kind).number("I", mount.flags).text(mount.options)


def write_program(
    writer: Writer,
    command: Sequence[str],
    variables: Mapping[str, str],
    cwd: str,
    ids: tuple[int, int, Sequence[int]],
    *,
    terminal: bool,
    size: tuple[int, int] = (0, 0),
) -> None:
    """``ids`` are user, group and further groups, ``size`` columns and rows. The environment always has a PATH."""
    uid, gid, groups = ids
    writer.texts(command).texts(environment(variables)).text(cwd or "/").number("II", uid, gid)
    writer.items(dict.fromkeys((gid, *groups)), lambda inner, group: inner.number("I", group))
    columns, rows = (min(max(0, number), 65535) for number in size)
    writer.flag(terminal).number("HH", columns, rows)


def write_command(writer: Writer, spec: ExecSpec) -> None:
    write_program(
        writer,
        spec.command,
        spec.environment,
        spec.cwd,
        (spec.user, spec.group, spec.groups),
        terminal=spec.terminal,
        size=(spec.width, spec.height),
    )
