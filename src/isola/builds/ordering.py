"""Stages are built concurrently, and reported one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from isola.builds.parts import Tell
from isola.model.build import BuildEvent, BuildEventKind

MOST_HELD = 4 << 20
"""Bytes of output of a stage whose turn has not come; later output is left out."""


class Ordering:
    """Passes on the events of the first stage that has not ended, and holds those of later ones."""

    def __init__(self, stages: Sequence[int], tell: Tell) -> None:
        self._waiting = sorted(stages)
        self._tell = tell
        self._held: dict[int, list[BuildEvent]] = {}
        self._sizes: dict[int, int] = {}

    def take(self, event: BuildEvent) -> None:
        """An event of any stage."""
        if event.kind is BuildEventKind.AGENT or not self._waiting or event.stage <= self._waiting[0]:
            self._tell(event)
            return
        size = self._sizes.get(event.stage, 0) + len(event.data)
        if size <= MOST_HELD or event.kind is not BuildEventKind.OUTPUT:
            self._held.setdefault(event.stage, []).append(event)
            self._sizes[event.stage] = size

    def ended(self, stage: int) -> None:
        """Nothing more comes from the stage."""
        if stage in self._waiting:
            self._waiting.remove(stage)
        for each in sorted(self._held):
            if not self._waiting or each <= self._waiting[0]:
                self._pass_on(each)

    def all_ended(self) -> None:
        """Pass on everything: the build is over."""
        for stage in sorted(self._held):
            self._pass_on(stage)
        self._waiting.clear()

    def _pass_on(self, stage: int) -> None:
        for event in self._held.pop(stage, []):
            self._tell(event)
