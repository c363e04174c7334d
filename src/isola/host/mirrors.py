"""Makes a tree a copy of another one by changing only what differs, so that either all of it takes effect or nothing.

Layout of the directory in which a change is prepared, on the file system of the target::

    new/        copies from the source, under their paths
    old/        what was taken out of the target, numbered
    plan.json   from the first change of the target until the last one is on disk
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from isola.errors import CommandFailed, HostFailure, StorageFull
from isola.host import trees
from isola.host.cancellation import finish
from isola.host.comparing import Difference, Look, Survey, TooDifferent, Trust, compare, survey
from isola.host.exhaustion import host_refused, reports_full_disk
from isola.host.process import Processes
from isola.host.threads import Work, in_long_thread, in_thread
from isola.host.transplant import Change, carry_out, revert

__all__ = ["Difference", "Look", "Mirrors", "Survey", "Trust"]

T = TypeVar("T")
_ARGUMENTS = 64 << 10
"""Bytes of paths for one program."""
_PLAN = "plan.json"


class Mirrors(Protocol):
    """Paths are absolute; nothing else writes to the target."""

    async def compare(self, source: Path, target: Path, trust: Trust) -> Difference | None:
        """What a target must change to become like a source. None: a complete copy is better. Raises HostFailure."""
        ...

    async def survey(self, tree: Path, recent: datetime) -> Survey:
        """Of the directories of a tree in which no file was changed after ``recent``; empty where none can be made."""
        ...

    async def stage(self, source: Path, difference: Difference, place: Path) -> None:
        """Copy what the target lacks into a new directory. Not yet on disk. Raises HostFailure."""
        ...

    async def apply(self, target: Path, difference: Difference, place: Path) -> None:
        """Move what was staged into the target, durably. Raises HostFailure; the target is unchanged then.

        If not even that is possible, ``unfinished`` says so.
        """
        ...

    async def unfinished(self, place: Path) -> Path | None:
        """The target of a change that has begun and not ended."""
        ...

    async def complete(self, target: Path, place: Path) -> None:
        """Carry out the rest of such a change; can be repeated. Raises HostFailure."""
        ...

    async def overwrite(self, source: Path, target: Path, difference: Difference) -> None:
        """Copy into a target that the caller removes after a failure. Raises HostFailure."""
        ...


class LinuxMirrors:
    """Compares in a thread, and copies by ``cp`` of coreutils."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def compare(self, source: Path, target: Path, trust: Trust) -> Difference | None:
        """A cancellation ends it soon."""
        reading = await in_thread(_reported, source, partial(trees.without_links, source))
        try:
            return await _until_cancelled(
                lambda stop: _reported(source, lambda: _compare(reading, target, trust, stop)),
            )
        finally:
            os.close(reading)

    async def survey(self, tree: Path, recent: datetime) -> Survey:
        """In a thread of those for content."""
        moment = int(recent.timestamp() * 1e9)
        return await in_long_thread(Work.COPY, _survey, tree, moment)

    async def stage(self, source: Path, difference: Difference, place: Path) -> None:
        """With the directories above each."""
        await in_thread(_reported, place, partial(os.mkdir, place / "new", 0o700))
        await self._copy(source, difference.copied, place / "new")

    async def apply(self, target: Path, difference: Difference, place: Path) -> None:
        """In one thread. The plan is on disk before the first change."""
        await in_long_thread(Work.COPY, _reported, target, lambda: _apply(target, difference, place))

    async def unfinished(self, place: Path) -> Path | None:
        """As the plan says."""
        return await in_thread(_reported, place, lambda: _target(place))

    async def complete(self, target: Path, place: Path) -> None:
        """By the plan."""
        await in_long_thread(Work.COPY, _reported, target, lambda: _complete(target, place))

    async def overwrite(self, source: Path, target: Path, difference: Difference) -> None:
        """Removes first what is replaced."""
        for path in (*difference.removed, *difference.copied):
            await in_long_thread(Work.REMOVE, trees.remove_tree, target / os.fsdecode(path))
        await self._copy(source, difference.copied, target)
        change = Change((), (), difference.directories)
        await in_thread(_reported, target, lambda: carry_out(target, target, change))

    async def _copy(self, source: Path, paths: tuple[bytes, ...], target: Path) -> None:
        if not paths:
            return
        options = ("--archive", "--reflink=auto", "--sparse=auto", "--parents", f"--target-directory={target}")
        tree = await in_thread(_reported, source, partial(trees.without_links, source))
        try:
            for some in _portions(paths):
                argv = ("env", f"--chdir=/proc/self/fd/{tree}", "cp", *options, "--", *map(os.fsdecode, some))
                await self._processes.run(argv, timeout=None, pass_fds=(tree,))
        except CommandFailed as error:
            kind = StorageFull if reports_full_disk(error.evidence) else HostFailure
            raise kind(f"Cannot copy {source} to {target}", evidence=error.evidence) from error
        finally:
            os.close(tree)


def _survey(tree: Path, recent: int) -> Survey:
    try:
        return survey(tree, recent)
    except OSError:  # such as another file system in it, which then is compared in full
        return {}


def _compare(source: int, target: Path, trust: Trust, stop: threading.Event) -> Difference | None:
    try:
        return compare(source, target, trust, stop)
    except TooDifferent:
        return None
    except OSError:
        if stop.is_set():
            raise
        return None  # what a complete copy cannot read either, it reports


async def _until_cancelled(work: Callable[[threading.Event], T]) -> T:
    stop = threading.Event()
    running = asyncio.ensure_future(in_long_thread(Work.COPY, work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            await finish(running)
        raise


def _portions(paths: tuple[bytes, ...]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for path in paths:
        if some and size + len(path) > _ARGUMENTS:
            yield some
            some, size = [], 0
        some.append(path)
        size += len(path) + 16
    if some:
        yield some


def _apply(target: Path, difference: Difference, place: Path) -> None:
    change = Change(difference.copied, difference.removed, difference.directories)
    os.mkdir(place / "old", 0o700)
    plan = {"target": str(target), **_as_json(change)}
    _write(place / _PLAN, json.dumps(plan).encode())
    try:
        carry_out(target, place, change)
    except BaseException:
        revert(target, place, change)
        _withdraw(place)
        raise
    _withdraw(place)


def _target(place: Path) -> Path | None:
    try:
        return Path(json.loads((place / _PLAN).read_bytes())["target"])
    except FileNotFoundError:
        return None


def _complete(target: Path, place: Path) -> None:
    change = _from_json(json.loads((place / _PLAN).read_bytes()))
    if os.path.lexists(target):
        carry_out(target, place, change)
    _withdraw(place)


def _withdraw(place: Path) -> None:
    os.unlink(place / _PLAN)
    _fsync(place)


def _write(path: Path, data: bytes) -> None:
    partial_path = path.with_suffix(".partial")
    with open(partial_path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(partial_path, path)
    _fsync(path.parent)


def _fsync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "copied": [os.fsdecode(path) for path in change.copied],
        "removed": [os.fsdecode(path) for path in change.removed],
        "directories": [
            [os.fsdecode(path), _look_as_json(wanted), _look_as_json(found)]
            for path, wanted, found in change.directories
        ],
    }


def _look_as_json(look: Look) -> list[Any]:
    attributes = {name: base64.b64encode(value).decode() for name, value in look.attributes}
    return [look.mode, look.uid, look.gid, *look.times, attributes]


def _from_json(found: dict[str, Any]) -> Change:
    return Change(
        tuple(os.fsencode(path) for path in found["copied"]),
        tuple(os.fsencode(path) for path in found["removed"]),
        tuple(
            (os.fsencode(path), _look_from_json(wanted), _look_from_json(was))
            for path, wanted, was in found["directories"]
        ),
    )


def _look_from_json(found: list[Any]) -> Look:
    mode, uid, gid, accessed, modified, attributes = found
    named = tuple(sorted((name, base64.b64decode(value)) for name, value in attributes.items()))
    return Look(mode, uid, gid, (accessed, modified), named)


def _reported(path: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as error:
        raise host_refused(f"The file system refused {path}", error) from error
