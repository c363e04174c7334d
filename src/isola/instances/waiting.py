"""Clients that wait for the end of a run, or for the removal of an instance: nothing is polled."""

from __future__ import annotations

import asyncio
from functools import partial

from isola.model.last_run import Until


class Waits:
    """Futures of the exit status, by the id of the instance; a future that is cancelled is dropped."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Future[int], Until]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, id: str, until: Until) -> asyncio.Future[int]:
        """One more client waits."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, {})[future] = until
        future.add_done_callback(partial(self._drop, id))
        return future

    def stopped(self, id: str, status: int, *, ran: bool = True) -> None:
        """It is recorded that the instance does not run; ``ran``: because a run has ended."""
        self._tell(id, status, {Until.NOT_RUNNING, Until.NEXT_EXIT} if ran else {Until.NOT_RUNNING})

    def removed(self, id: str, status: int) -> None:
        """Its record was removed: there is nothing left to wait for."""
        self._tell(id, status, set(Until))

    def _tell(self, id: str, status: int, who: set[Until]) -> None:
        for future, until in list(self._waiting.get(id, {}).items()):
            if until in who and not future.done():
                future.set_result(status)

    def _drop(self, id: str, future: asyncio.Future[int]) -> None:
        waiting = self._waiting.get(id, {})
        waiting.pop(future, None)
        if not waiting:
            self._waiting.pop(id, None)
