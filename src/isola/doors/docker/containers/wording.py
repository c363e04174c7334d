"""Failures of programs as Docker says them: scripts look for its texts, and clients choose 126 or 127 by them."""

from __future__ import annotations

import re

from isola.errors import Forbidden, HostFailure, InvalidInput, IsolaError, NotFound
from isola.instances.last_run import NOT_EXECUTABLE, NOT_FOUND, status_of_failure

_PROCESS = "unable to start container process: "
_FIRST = "The first process"
_DIRECTORY = re.compile(r"chdir `([^`]*)`: (.*)")
_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)
_QUOTED = re.compile(r"'(.*)'")
_DATABASES = {"user": "passwd", "group": "group"}
_BY_ENGINE = re.compile(rb"executable file `|open executable|chdir `|exec failed: |exec: |.*level=error msg=")


def of_process(program: str, reason: str) -> str:
    """Why a first process or a command was not started, from the message of the engine."""
    status = status_of_failure(reason)
    if found := _DIRECTORY.search(reason):
        return f'{_PROCESS}chdir to cwd ("{found[1]}") set in config.json failed: {found[2].lower()}'
    if status == NOT_FOUND:
        return f'{_PROCESS}exec: "{program}": executable file not found in $PATH'
    if status == NOT_EXECUTABLE and "exec format error" not in reason.lower():
        return f'{_PROCESS}exec: "{program}": permission denied'
    return f"{_PROCESS}{reason}"


def of_start(program: str, runtime: str, error: IsolaError) -> IsolaError:
    """Of the start of a container."""
    if isinstance(error, HostFailure) and error.evidence and error.message.startswith(_FIRST):
        text = of_process(program, error.evidence)
        return InvalidInput(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: "
            f"{runtime} create failed: {text}"
        )
    if isinstance(error, NotFound | Forbidden) and (error.field or "").endswith(".subpath"):
        return of_subpath(error)
    return of_name(error)


def of_subpath(error: NotFound | Forbidden) -> IsolaError:
    """Of a volume or an image; clients choose 127 by the text, and a status of 404 by the error."""
    if isinstance(error, NotFound):
        return NotFound(f"cannot access path {error.evidence}: no such file or directory")
    return InvalidInput(f"path concatenation escapes the base directory, subpath: {error.evidence}")


def of_record(program: str, runtime: str, reason: str) -> str:
    """Of the last start, as it was recorded."""
    message, colon, evidence = reason.partition(": ")
    return str(of_start(program, runtime, HostFailure(message, evidence=evidence))) if colon else reason


def of_command(program: str, error: IsolaError | str) -> IsolaError:
    """Of the start of a command."""
    reason = error if isinstance(error, str) else error.evidence or error.message
    if isinstance(error, InvalidInput) and error.field == "cwd":
        return InvalidInput("OCI runtime exec failed: exec failed: Cwd must be an absolute path")
    if isinstance(error, HostFailure | str):
        return InvalidInput(f"OCI runtime exec failed: exec failed: {of_process(program, reason)}")
    return of_name(error)


def of_name(error: IsolaError) -> IsolaError:
    """Of users and groups that are not in the container."""
    kind, name = error.field or "", _QUOTED.search(error.message)
    if not isinstance(error, InvalidInput) or kind not in _DATABASES or name is None:
        return error
    if _NUMBER.fullmatch(name[1]):
        return InvalidInput("uids and gids must be in range 0-2147483647")
    return InvalidInput(f"unable to find {kind} {name[1]}: no matching entries in {_DATABASES[kind]} file")


def may_be_engines(output: bytes) -> bool:
    """Whether the first output of a command may be an error of the engine."""
    return _BY_ENGINE.match(output) is not None
