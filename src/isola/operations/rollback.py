"""Undoing, last in first out, going on past failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Undo = Callable[[], Awaitable[object]]


class Rollback:
    """A stack of idempotent inverses, pushed before the effect they undo."""

    def __init__(self) -> None:
        self._stack: list[tuple[str, Undo]] = []

    def push(self, name: str, undo: Undo) -> None:
        """Remember how to undo ``name``."""
        self._stack.append((name, undo))

    def forget(self) -> None:
        """The point of no return: nothing pushed so far is undone any more."""
        self._stack.clear()

    async def run(self) -> list[str]:
        """Undo all; returns one sentence for each thing that could not be undone."""
        failures: list[str] = []
        while self._stack:
            name, undo = self._stack.pop()
            try:
                await undo()
            except Exception as error:
                failures.append(f"Could not undo {name}: {error}")
        return failures
