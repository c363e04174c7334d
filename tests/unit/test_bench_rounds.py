"""The bench measures alternately, shares prepared objects, and cleans up after failures."""

from collections.abc import Sequence
from typing import Any

import pytest
from bench import rounds
from bench.shell import Trouble
from bench.workload import Workload


class Work(Workload):
    """A workload with a name and a setting."""

    def __init__(self, name: str, setting: str = "") -> None:
        self.name = name  # type: ignore[misc]
        self.title = name  # type: ignore[misc]
        self.setting = setting  # type: ignore[misc]

    def sample(self, subject: Any) -> float:
        raise AssertionError("samples are taken by the subject")


class Side:
    """A subject that records calls, and fails at the given ones."""

    def __init__(self, name: str, journal: list[str], fails: Sequence[str] = ()) -> None:
        self.name = name
        self._journal = journal
        self._fails = fails

    def ask(self, verb: str, workload: str = "") -> Any:
        self._journal.append(f"{self.name} {verb} {workload}")
        if f"{verb} {workload}" in self._fails:
            raise Trouble("as told")
        return [1.0, 2.0] if verb == "sample" else None


def measured(group: Sequence[Workload], sides: Sequence[Side], count: int) -> dict[str, rounds.Figures]:
    return {work.name: figures for work, figures in rounds.measure(group, sides, count)}


def test_takes_turns() -> None:
    journal: list[str] = []
    figures = measured([Work("w")], [Side("us", journal), Side("them", journal)], 2)
    assert figures == {"w": {"us": [1.0, 2.0] * 2, "them": [1.0, 2.0] * 2}}
    assert [line for line in journal if "sample" in line] == ["us sample w", "them sample w"] * 2


def test_neighbours_of_one_setting_share_what_the_first_prepares() -> None:
    works = [Work("a", "pool"), Work("b", "pool"), Work("c"), Work("d")]
    groups = rounds.settings(works)
    assert [[work.name for work in group] for group in groups] == [["a", "b"], ["c"], ["d"]]
    journal: list[str] = []
    measured(groups[0], [Side("us", journal)], 1)
    assert journal == ["us prepare a", "us warm a", "us sample a", "us warm b", "us sample b", "us finish a"]


def test_a_subject_that_fails_to_prepare_is_left_out_and_cleaned_up(capsys: pytest.CaptureFixture[str]) -> None:
    journal: list[str] = []
    them = Side("them", journal, ["prepare w"])
    assert measured([Work("w")], [Side("us", journal), them], 1) == {"w": {"us": [1.0, 2.0]}}
    assert [line for line in journal if line.startswith("them")] == ["them prepare w", "them finish w"]
    assert "w, prepare: as told" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["warm", "sample"])
def test_a_failure_costs_one_figure_and_not_the_others(verb: str) -> None:
    journal: list[str] = []
    group = [Work("a", "s"), Work("b", "s")]
    figures = measured(group, [Side("us", journal), Side("them", journal, [f"{verb} a"])], 2)
    assert figures["a"] == {"us": [1.0, 2.0] * 2}
    assert figures["b"].keys() == {"us", "them"}
    assert journal[-2:] == ["us finish a", "them finish a"]


def test_cleans_up_when_it_is_interrupted() -> None:
    journal: list[str] = []
    running = rounds.measure([Work("w")], [Side("us", journal)], 1)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert journal[-1] == "us finish w"
