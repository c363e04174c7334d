"""The table of what walls cost, in the page that explains them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import machines
from bench.catalogue import peer_names, subject, workloads
from bench.walls_table import PAGE, table, updated
from bench.workloads.walls import FLOORS


def test_each_wall_is_measured_beside_what_it_is_made_of() -> None:
    ours, every = subject("isola"), workloads()
    for wall, floor in FLOORS.items():
        rows = [work for name, work in every.items() if name.startswith("wall-") and name.endswith(f"-{wall}")]
        assert {f"wall-boot-{wall}", f"wall-memory-{wall}"} <= {work.name for work in rows}
        assert all(ours.can(verb) for work in rows for verb in work.needs)
        shared = [work for work in rows if not work.alone]
        assert len(shared) >= (3 if floor else 0), wall
        assert all(set(work.targets) == {floor} for work in shared)
        assert all(subject(floor).can(verb) for work in shared for verb in work.needs)
        others = set(peer_names()) - {floor}
        assert not [peer for peer in others for work in rows if all(subject(peer).can(verb) for verb in work.needs)]


def test_guests_that_read_from_the_network_are_measured_behind_each_wall_that_runs_programs() -> None:
    found = {name for name in workloads() if name.startswith("wall-network-")}
    assert found == {"wall-network-container", "wall-network-sandbox", "wall-network-microvm"}


@pytest.mark.parametrize("wall", machines.SAYS)
def test_machines_are_those_of_the_tests(wall: str, tmp_path: Path) -> None:
    file = machines.write(wall, tmp_path / wall)
    assert machines.SAYS[wall].encode() in file.read_bytes()


def test_the_table_has_figures_with_their_floor_and_says_what_is_missing() -> None:
    rows = {"wall-boot-sandbox": {"ours": [300.0, 310.0, 290.0], "theirs": [280.0, 250.0, 260.0]}}
    text = table(rows)
    assert "300 (runsc 260: 1.15 ×)" in text and text.count("to be measured") == 22
    every = {name: {"ours": [1.0], "theirs": [2.0]} for name in workloads()}
    assert table(every).count("to be measured") == 0
    assert table(every).count("–") == 7
    page = PAGE.read_text()
    assert table({}) in updated(page, {}) and updated(updated(page, rows), rows) == updated(page, rows) != page
