"""Takes the samples alternately from all subjects, round by round, so that other load affects all of them equally."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

from bench.shell import Trouble
from bench.workload import Workload

Figures = dict[str, list[float]]
"""Samples by the name of the subject; a subject that failed is missing."""


class Asked(Protocol):
    """A subject that handles requests."""

    name: str

    def ask(self, verb: str, workload: str = "") -> Any:
        """Raises Trouble if the request failed."""


def settings(workloads: Sequence[Workload]) -> list[list[Workload]]:
    """Consecutive workloads that share one setting."""
    return [list(group) for _, group in groupby(workloads, key=lambda workload: workload.setting or workload.name)]


def measure(group: Sequence[Workload], subjects: Sequence[Asked], rounds: int) -> Iterator[tuple[Workload, Figures]]:
    """Measure the workloads of one setting; prepared objects are removed also after failures."""
    first = group[0]
    able = [subject for subject in subjects if _does(subject, "prepare", first)]
    try:
        for workload in group:
            print(f"  {workload.title}", file=sys.stderr)
            yield workload, _sample(workload, able, rounds)
    finally:
        # Also for subjects that failed to prepare: a part may exist.
        for subject in subjects:
            _does(subject, "finish", first)


def _sample(workload: Workload, subjects: Sequence[Asked], rounds: int) -> Figures:
    figures: Figures = {subject.name: [] for subject in subjects if _does(subject, "warm", workload)}
    for _ in range(rounds):
        for subject in subjects:
            if subject.name not in figures:
                continue
            try:
                figures[subject.name] += subject.ask("sample", workload.name)
            except Trouble as trouble:
                _tell(workload, "sample", trouble)
                # Otherwise a partial row would be compared with a complete one.
                del figures[subject.name]
    return figures


def _does(subject: Asked, verb: str, workload: Workload) -> bool:
    try:
        subject.ask(verb, workload.name)
    except Trouble as trouble:
        _tell(workload, verb, trouble)
        return False
    return True


def _tell(workload: Workload, verb: str, trouble: Trouble) -> None:
    print(f"  {workload.name}, {verb}: {trouble}", file=sys.stderr)
