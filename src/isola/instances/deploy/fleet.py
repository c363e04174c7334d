"""Many instances at once, in waves; the first failure ends it after its wave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isola.errors import HostFailure, IsolaError
from isola.host.cancellation import finish
from isola.model.reference import Ref
from isola.operations import Operation, Operations

Act = Callable[[Ref], Operation]
WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "untouched"


@dataclass(slots=True)
class Fleet:
    """The waves, and how far each instance is, which the operation's metadata shows."""

    operations: Operations
    waves: Sequence[Sequence[Ref]]
    act: Act
    states: dict[str, dict[str, str]] = field(default_factory=dict)

    async def run(self, op: Operation) -> None:
        """Raises the first error of the wave that fails, naming the instances that are as before."""
        everybody = [ref for wave in self.waves for ref in wave]
        self.states = {ref.name: {"status": WAITING, "error": ""} for ref in everybody}
        self._show(op, 0)
        with op.step("Instances", total=len(everybody), unit="items") as step:
            for number, wave in enumerate(self.waves, 1):
                self._show(op, number)
                if (error := await self._wave(op, number, wave, step.advance)) is not None:
                    raise self._ended(op, number, error)

    async def _wave(
        self, op: Operation, number: int, wave: Sequence[Ref], advance: Callable[[], object]
    ) -> IsolaError | None:
        started: list[tuple[Ref, Operation]] = []
        first: IsolaError | None = None
        for ref in wave:
            self._set(ref, RUNNING)
            try:
                started.append((ref, self.act(ref)))
            except IsolaError as error:
                self._set(ref, FAILED, str(error))
                first = first or error
        self._show(op, number)
        try:
            for ref, operation in started:
                await operation.wait()
                try:
                    await self.operations.finish(operation)
                    self._set(ref, DONE)
                    advance()
                except IsolaError as error:
                    self._set(ref, FAILED, str(error))
                    first = first or error
                self._show(op, number)
        except BaseException:
            for _, operation in started:
                if operation.may_cancel:
                    operation.cancel()
            for _, operation in started:
                await finish(operation.wait())
            raise
        return first

    def _ended(self, op: Operation, number: int, error: IsolaError) -> IsolaError:
        for state in self.states.values():
            if state["status"] == WAITING:
                state["status"] = SKIPPED
        self._show(op, number)
        failed, done, left = (
            [name for name, state in self.states.items() if state["status"] == status]
            for status in (FAILED, DONE, SKIPPED)
        )
        return HostFailure(
            f"Wave {number} of {len(self.waves)} failed for {', '.join(failed[:5])}: {error.message}",
            evidence="; ".join(
                [*([error.evidence] if error.evidence else []), f"{len(done)} are done, {len(left)} were not begun"]
            ),
            remedy="roll back those that are done, or deploy again",
        )

    def _set(self, ref: Ref, status: str, error: str = "") -> None:
        self.states[ref.name] = {"status": status, "error": error}

    def _show(self, op: Operation, wave: int) -> None:
        op.update_metadata(
            wave=wave, waves=len(self.waves), instances={name: dict(each) for name, each in self.states.items()}
        )
