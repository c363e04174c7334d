"""The program that a user asks an instance to run, in place of its image's."""

from __future__ import annotations

from dataclasses import dataclass

from isola.errors import InvalidInput
from isola.model.signals import signal_number

_MOST_ARGUMENTS = 4096
_LONGEST_ARGUMENT = 131_071
"""Bytes: the kernel accepts no longer argument."""
_LARGEST = 1 << 20
"""Bytes of all of them: a record is read and written as a whole."""
_LONGEST_PATH = 4095
_LONGEST_USER = 600


@dataclass(frozen=True, slots=True)
class Program:
    """Each part that is None is as the image says."""

    entrypoint: tuple[str, ...] | None = None
    """One that is given and not empty drops the image's arguments; one empty string is an empty entrypoint."""
    arguments: tuple[str, ...] | None = None
    """An empty one is as the image says, too."""
    cwd: str | None = None
    user: str | None = None
    """``uid`` or ``uid:gid`` or names as in the image's /etc/passwd."""
    stop_signal: str | None = None
    stop_timeout: int | None = None
    """Seconds until it is killed when it is to stop; -1: it is not killed."""


def require_valid(program: Program) -> None:
    """Raises InvalidInput."""
    given = (*(program.entrypoint or ()), *(program.arguments or ()))
    sizes = [len(each.encode("utf-8", "surrogateescape")) for each in given]
    if len(given) > _MOST_ARGUMENTS or sum(sizes) > _LARGEST or max(sizes, default=0) > _LONGEST_ARGUMENT:
        raise _invalid(
            "command",
            "The command is too long",
            f"use up to {_MOST_ARGUMENTS} arguments of up to {_LONGEST_ARGUMENT} bytes each",
        )
    if any("\0" in text for text in (*given, program.cwd or "", program.user or "")):
        raise _invalid("command", "Arguments, directory and user of a program have no NUL", "remove it")
    cwd = program.cwd or "/"
    if not cwd.startswith("/") or len(cwd) > _LONGEST_PATH:
        raise _invalid("cwd", f"The working directory {cwd[:80]!r} is not an absolute path", "begin it with /")
    if len(program.user or "") > _LONGEST_USER:
        raise _invalid("user", "The user's name is too long", "use a number")
    if program.stop_signal:
        signal_number(program.stop_signal)
    if program.stop_timeout is not None and not -1 <= program.stop_timeout <= 2**31:
        raise _invalid("stop_timeout", "The time until it is killed is out of range", "use seconds, or -1 for never")


def command_of(
    program: Program, entrypoint: tuple[str, ...], command: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The entrypoint and the whole command, given those of the image, of which the entrypoint is the beginning."""
    arguments = program.arguments or ()
    if not program.entrypoint and not arguments:
        arguments = command[len(entrypoint) :]
    if program.entrypoint is not None:
        entrypoint = () if program.entrypoint == ("",) else program.entrypoint
    return entrypoint, entrypoint + arguments


def _invalid(field: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput(message, field=f"program.{field}", remedy=remedy)
