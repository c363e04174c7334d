"""Which user and group ids of this host are in use: grants, names, processes, and claims of its daemons."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure, IsolaError
from isola.host.proc import unseen
from isola.host.process import Processes
from isola.host.threads import in_thread
from isola.model.identity import ID_RANGE_SIZE

Extent = tuple[int, int]
"""First id and number of ids."""

CLAIMS = Path("/var/lib/isola-ids")
"""One symbolic link per range in use, named by its first id; its target names the owner."""
_ROOT = frozenset({"root", "0"})
_FIRST_FOREIGN = 65536
_EVERY_ID = 2**32 - 1
_NEIGHBOURS = ("var/lib/incus/database", "var/lib/lxd/database", "var/snap/lxd/common/lxd/database")
_NEIGHBOURS_DEFAULT: Extent = (1_000_000, 1_000_000_000)
"""The range of Incus and LXD if nothing is granted to root."""


class IdRanges(Protocol):
    """Ranges are ``ID_RANGE_SIZE`` ids each and known by their first one."""

    async def granted(self) -> Sequence[Extent]:
        """Extents that /etc/subuid and /etc/subgid grant to root; if only one has lines for root, of that one."""
        ...

    async def taken(self) -> Sequence[Extent]:
        """Extents that others use: granted to other users, of users and groups with a name, of user namespaces that
        run, and of Incus, LXD and systemd-nspawn where they are installed."""
        ...

    async def named(self, ids: Sequence[int]) -> frozenset[int]:
        """The ids among these that the name service knows as a user or a group; empty if it does not respond."""
        ...

    async def claim(self, bases: Sequence[int], holder: str) -> int | None:
        """Claim the first of these ranges that is not claimed on this host and that no process has an id of.

        Raises HostFailure where claims cannot be written.
        """
        ...

    async def keep(self, wanted: Mapping[int, str]) -> Mapping[int, str]:
        """Claim ranges for holders that have them already; returns those that others have claimed, with whom."""
        ...

    async def release(self, base: int, holder: str) -> None:
        """Release a claim; no effect if it does not exist or belongs to another daemon."""
        ...

    async def release_gone(self, bases: Sequence[int]) -> int:
        """Release claims of these ranges by daemons whose directories do not exist; returns how many.

        A directory may come back with a file system that is not mounted now: its daemon learns by ``keep`` then what
        others have claimed.
        """
        ...

    async def claims(self) -> Mapping[int, str]:
        """Every claim on this host with its holder."""
        ...


class LinuxIdRanges:
    """Reads ``/etc`` and ``/proc`` below ``root``; asks the name service by ``getent``, which may be killed."""

    def __init__(self, processes: Processes, root: Path = Path("/"), claims: Path = CLAIMS) -> None:
        self._processes = processes
        self._root = root
        self._claims = claims
        self.names_seconds = 5.0
        """Timeout for a directory service, in seconds."""

    async def granted(self) -> Sequence[Extent]:
        """Extents that are granted to root."""
        return await in_thread(self._granted)

    async def taken(self) -> Sequence[Extent]:
        """Extents that others use."""
        return [
            *((id, 1) for id in await self._ids_with_names() if id >= _FIRST_FOREIGN),
            *await in_thread(self._taken),
        ]

    async def named(self, ids: Sequence[int]) -> frozenset[int]:
        """Those that the name service knows."""
        return frozenset(await self._ids_with_names(*map(str, ids))) & frozenset(ids)

    async def claim(self, bases: Sequence[int], holder: str) -> int | None:
        """Claim the first that is free."""
        return await in_thread(self._claim, bases, holder)

    async def keep(self, wanted: Mapping[int, str]) -> Mapping[int, str]:
        """Claim what is in use already."""
        return await in_thread(self._keep, wanted)

    async def release(self, base: int, holder: str) -> None:
        """Release a claim."""
        await in_thread(self._release, base, holder)

    async def release_gone(self, bases: Sequence[int]) -> int:
        """Release claims of daemons that are gone."""
        return await in_thread(self._release_gone, frozenset(bases))

    async def claims(self) -> Mapping[int, str]:
        """Every claim on this host."""
        return await in_thread(self._all)

    # --- who has which ids --------------------------------------------------------------------------------------

    def _granted(self) -> Sequence[Extent]:
        users, groups = (
            [extent for owner, extent in self._rows(name) if owner in _ROOT] for name in ("subuid", "subgid")
        )
        if not users or not groups:
            return users or groups
        return [both for user in users for group in groups if (both := _overlap(user, group))]

    def _taken(self) -> Sequence[Extent]:
        rows = [*self._rows("subuid"), *self._rows("subgid")]
        found = [extent for owner, extent in rows if owner not in _ROOT]
        if any((self._root / place).exists() for place in _NEIGHBOURS):
            found += [extent for owner, extent in rows if owner in _ROOT] or [_NEIGHBOURS_DEFAULT]
        found += [(owner, ID_RANGE_SIZE) for owner in self._owners("var/lib/machines")]
        return [*found, *self._mapped()]

    def _rows(self, name: str) -> list[tuple[str, Extent]]:
        try:
            text = (self._root / "etc" / name).read_text(errors="replace")
        except OSError:
            return []
        rows = (line.split(":") for line in text.splitlines())
        return [(row[0], (int(row[1]), int(row[2]))) for row in rows if len(row) == 3 and _numbers(row[1:])]

    def _mapped(self) -> Iterator[Extent]:
        """What the user namespaces of running processes map; one process of each range is looked at."""
        seen: list[Extent] = []
        for pid, owner in self._owners_of_processes():
            if owner and not any(first <= owner < first + count for first, count in seen):
                seen += _outside(self._root / f"proc/{pid}/uid_map")
        return (extent for extent in seen if sum(extent) > _FIRST_FOREIGN)

    def _owners_of_processes(self) -> Iterator[tuple[str, int]]:
        try:
            entries = os.scandir(self._root / "proc")
        except FileNotFoundError:
            return
        except OSError as error:
            raise unseen("the processes of this host", error) from error
        with entries:
            for entry in entries:
                if entry.name.isdigit():
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        yield entry.name, entry.stat().st_uid

    def _owners(self, place: str) -> Iterator[int]:
        with contextlib.suppress(OSError), os.scandir(self._root / place) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if (owner := entry.stat(follow_symlinks=False).st_uid) >= _FIRST_FOREIGN:
                        yield owner

    async def _ids_with_names(self, *keys: str) -> list[int]:
        users, groups = await asyncio.gather(self._enumerate("passwd", *keys), self._enumerate("group", *keys))
        return [*users, *groups]

    async def _enumerate(self, database: str, *keys: str) -> list[int]:
        try:
            done = await self._processes.run(["getent", database, *keys], timeout=self.names_seconds, check=False)
        except IsolaError:
            return []
        rows = (line.split(":") for line in done.stdout.decode(errors="replace").splitlines())
        return [int(row[2]) for row in rows if len(row) > 2 and _numbers(row[2:3])]

    # --- claims -------------------------------------------------------------------------------------------------

    def _claim(self, bases: Sequence[int], holder: str) -> int | None:
        running = sorted({owner for _, owner in self._owners_of_processes() if owner >= _FIRST_FOREIGN})
        for base in bases:
            at = bisect.bisect_left(running, base)
            if at < len(running) and running[at] < base + ID_RANGE_SIZE:
                continue
            if self._make(base, holder):
                return base
        return None

    def _keep(self, wanted: Mapping[int, str]) -> Mapping[int, str]:
        others = {}
        for base, holder in wanted.items():
            if not self._make(base, holder) and (other := self._holder(str(base))) not in ("", holder):
                others[base] = other
        return others

    def _make(self, base: int, holder: str) -> bool:
        try:
            self._claims.mkdir(mode=0o755, exist_ok=True)
            (self._claims / str(base)).symlink_to(holder)
        except FileExistsError:
            return False
        except OSError as error:
            raise HostFailure(f"Cannot claim user ids in {self._claims}", evidence=str(error)) from error
        return True

    def _release(self, base: int, holder: str) -> None:
        if self._holder(str(base)) == holder:
            with contextlib.suppress(FileNotFoundError):
                (self._claims / str(base)).unlink()

    def _release_gone(self, bases: frozenset[int]) -> int:
        count = 0
        try:
            fd = os.open(self._claims, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise unseen(f"the claims in {self._claims}", error) from error
        try:
            # Else two daemons read the same claim, and the later one removes what the earlier has claimed meanwhile.
            fcntl.flock(fd, fcntl.LOCK_EX)
            for base in bases & self._all().keys():
                holder = self._holder(str(base))
                if holder and _is_gone(Path(holder).parent):
                    self._release(base, holder)
                    count += 1
        except OSError as error:
            raise unseen(f"the claims in {self._claims}", error) from error
        finally:
            os.close(fd)
        return count

    def _all(self) -> Mapping[int, str]:
        try:
            names = os.listdir(self._claims)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise unseen(f"the claims in {self._claims}", error) from error
        return {int(name): self._holder(name) for name in names if name.isdigit()}

    def _holder(self, name: str) -> str:
        try:
            return os.readlink(self._claims / name)
        except OSError:
            return ""


def _is_gone(directory: Path) -> bool:
    """Not if it cannot be looked at."""
    try:
        os.lstat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _overlap(one: Extent, other: Extent) -> Extent | None:
    first, end = max(one[0], other[0]), min(sum(one), sum(other))
    return (first, end - first) if first < end else None


def _outside(file: Path) -> Iterable[Extent]:
    """The host's side of ``/proc/PID/uid_map``."""
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return []
    # The host's own namespace maps every id to itself.
    return [(int(row[1]), int(row[2])) for row in rows if len(row) == 3 and int(row[2]) < _EVERY_ID]


def _numbers(texts: Iterable[str]) -> bool:
    return all(text.isascii() and text.isdigit() and len(text) <= 10 for text in texts)
