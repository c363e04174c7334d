"""Shows errors: the message, the evidence, and hints."""

from __future__ import annotations

import re
import sys

from isola.cli.arguments import UsageError
from isola.cli.streams import OUTPUT
from isola.cli.terminal import clean, colours
from isola.errors import Cancelled, IsolaError, NotFound

_COMMANDS = {
    "busy": "isola operation list shows running operations",
    "wrong_state": "isola list shows states; isola start, stop and resume change them",
}
"""Hints by error code."""
_LISTED = "isola list shows the instances of this project; --project NAME and REMOTE:NAME choose another place"
_INSTANCE = re.compile(r"/1\.0/instances/[^/]+(/(state|exec|console))?")


def report(error: Exception) -> int:
    """Show an error; returns the exit status for it."""
    if isinstance(error, UsageError):
        return _usage(error)
    if isinstance(error, Cancelled):
        _show(error.message)
        return 130
    if isinstance(error, IsolaError):
        _show(error.message, _evidence(error), _hints(error))
        return 1
    if isinstance(error, OSError):
        _show(_system(error))
        return 1
    if isinstance(error, RecursionError):  # an instance can contain directories nested without limit
        _show("The directories are nested too deeply", "", "leave out these directories")
        return 1
    return _internal_error(error)


def _hints(error: IsolaError) -> str:
    """The daemon's remedy, which names a setting or a state, and the command that helps with that kind of error."""
    missing = error.code == NotFound.code and _INSTANCE.fullmatch(error.path)
    return "\n".join(part for part in (error.remedy, _LISTED if missing else _COMMANDS.get(error.code, "")) if part)


def _system(error: OSError) -> str:
    if error.filename == OUTPUT:
        return f"{OUTPUT.capitalize()}: {error.strerror}"
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def _usage(error: UsageError) -> int:
    hint = error.hint
    if error.command is not None:
        way = f"isola {error.command.path} --help shows how it is used"
        hint = f"{hint}\n{way}" if hint else way
    _show(error.message, "", hint)
    return 2


def _internal_error(error: Exception) -> int:
    """A bug of the command line; the traceback is shown with ISOLA_DEBUG=1."""
    import os

    if os.environ.get("ISOLA_DEBUG"):
        raise error
    where = ""
    trace = error.__traceback__
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    _show(
        "Internal error of the command line",
        f"{type(error).__name__}: {error} (in {where})",
        "please report it with the output of ISOLA_DEBUG=1",
    )
    return 1


def _evidence(error: IsolaError) -> str:
    field = error.field
    where = f"field {field}" if field and field not in error.message else ""
    return "\n".join(part for part in (error.evidence, where) if part)


def _show(message: str, evidence: str = "", hint: str = "") -> None:
    red, bold, plain = ("\x1b[31m", "\x1b[1m", "\x1b[0m") if colours(sys.stderr) else ("", "", "")
    lines = [f"{red}Error:{plain} {_lines(message)}"]
    lines += [f"  {clean(line)}" for line in evidence.splitlines()]
    for number, line in enumerate(hint.splitlines()):
        lines.append(f"{bold}Hint:{plain} {clean(line)}" if number == 0 else f"      {clean(line)}")
    try:  # noqa: SIM105  contextlib is slow to import
        sys.stdout.flush()
    except OSError:
        pass  # the first error matters more than one while showing it
    sys.stderr.write("\n".join(lines) + "\n")


def _lines(text: str) -> str:
    return "\n  ".join(clean(line) for line in text.splitlines())
