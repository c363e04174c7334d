"""Errors of system calls on files, as the errors of this program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from isola.errors import AlreadyExists, NotFound
from isola.host.exhaustion import host_refused

T = TypeVar("T")


def reported(path: Path, work: Callable[[], T]) -> T:
    """Run, and raise HostFailure where the system call fails."""
    try:
        return work()
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist", evidence=str(error)) from error
    except FileExistsError as error:
        raise AlreadyExists(f"{path} exists already", evidence=str(error)) from error
    except OSError as error:
        raise host_refused(f"The file system refused {path}", error) from error
