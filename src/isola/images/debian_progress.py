"""Progress of mmdebstrap, from its output."""

from __future__ import annotations

import re

from isola.operations import Operation, Step

_STAGES = (
    ("I: running apt-get update", "Read package lists"),
    ("I: downloading packages", "Download base packages"),
    ("I: extracting archives", "Unpack base packages"),
    ("I: installing essential", "Install base packages"),
    ("I: installing remaining", "Install packages"),
    ("I: running --customize-hook", "Set the system up"),
    ("I: creating tarball", "Pack the root file system"),
)
_COUNT = re.compile(r"\d+ upgraded, (\d+) newly installed")
_DONE = ("Get:", "Unpacking ", "Setting up ")
_POINTS = {"Download base packages": 1, "Install base packages": 2, "Install packages": 3}
"""Output lines per package in a stage: downloaded, unpacked, set up."""


class BuildProgress:
    """Turns output lines into consecutive steps with a count of packages."""

    def __init__(self, op: Operation) -> None:
        self._op = op
        self._step: Step | None = None
        self._packages = 0

    def take_line(self, line: str) -> None:
        """Process one line."""
        for beginning, name in _STAGES:
            if line.startswith(beginning):
                self._begin(name)
                return
        if self._step is None or self._step.name not in _POINTS:
            return
        if (match := _COUNT.match(line)) is not None and int(match[1]):
            self._packages = int(match[1])
            self._step.reach(self._step.done, self._packages * _POINTS[self._step.name])
        elif line.startswith(_DONE) and (self._step.total is None or self._step.done < self._step.total):
            self._step.advance()

    def end(self, error: BaseException | None = None) -> None:
        """Finish the current step."""
        if self._step is not None:
            if error is None and self._step.total is not None:
                self._step.reach(self._step.total)
            self._step.__exit__(type(error) if error else None, error, None)
            self._step = None

    def _begin(self, name: str) -> None:
        self.end()
        points = _POINTS.get(name)
        # The base packages are counted at their download and installed in a later stage.
        total = self._packages * points if points == 2 else None
        self._step = self._op.step(name, total=total, unit="items" if points else "")
        self._step.__enter__()
