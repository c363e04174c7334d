"""The allocation of a host's ids, set by a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from isola.host.id_ranges import Extent
from isola.model.identity import ID_RANGE_SIZE


class FakeIdRanges:
    """Claims persist when the daemon ends; everything else is set by the test."""

    def __init__(self, granted: Sequence[Extent] = ()) -> None:
        self.root: Sequence[Extent] = granted
        """Ranges that are granted to root."""
        self.others: list[Extent] = []
        """Ranges that are granted to others."""
        self.names: set[int] = set()
        """Ids of users and groups that have a name."""
        self.running: set[int] = set()
        """Ids that processes have."""
        self.held: dict[int, str] = {}
        """Claims."""
        self.gone: set[str] = set()
        """Directories of daemons that do not exist any more."""
        self.asked: list[int] = []
        """Of how many ids a name was asked for, each time."""
        self.listed = 0
        """How often all claims were read."""

    async def granted(self) -> Sequence[Extent]:
        return self.root

    async def taken(self) -> Sequence[Extent]:
        return self.others

    async def named(self, ids: Sequence[int]) -> frozenset[int]:
        self.asked.append(len(ids))
        return frozenset(self.names & set(ids))

    async def claim(self, bases: Sequence[int], holder: str) -> int | None:
        """Claim the first base that is free; None if there is none."""
        for base in bases:
            if base not in self.held and not any(base <= id < base + ID_RANGE_SIZE for id in self.running):
                self.held[base] = holder
                return base
        return None

    async def keep(self, wanted: Mapping[int, str]) -> Mapping[int, str]:
        """Claim the ranges that have no holder."""
        return {base: other for base, who in wanted.items() if (other := self.held.setdefault(base, who)) != who}

    async def release(self, base: int, holder: str) -> None:
        """Remove a claim."""
        if self.held.get(base) == holder:
            del self.held[base]

    async def release_gone(self, bases: Sequence[int]) -> int:
        """Remove claims whose holders are in directories of ``gone``."""
        found = [base for base, who in self.held.items() if base in bases and str(Path(who).parent) in self.gone]
        for base in found:
            del self.held[base]
        return len(found)

    async def claims(self) -> Mapping[int, str]:
        self.listed += 1
        return dict(self.held)
