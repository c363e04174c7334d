"""The table of what walls cost, in the page that explains them."""

from __future__ import annotations

from bench.catalogue import peer_names, subject, workloads
from bench.walls_table import PAGE, table, updated
from bench.workloads.walls import FLOORS


def test_each_wall_is_measured_beside_what_it_is_made_of() -> None:
    ours, every = subject("isola"), workloads()
    for wall, floor in FLOORS.items():
        shared = [
            work
            for name, work in every.items()
            if name.startswith("wall-")
            and name.endswith(f"-{wall}")
            and all(subject(floor).can(verb) and ours.can(verb) for verb in work.needs)
        ]
        assert len(shared) >= 4 and all(floor in work.targets for work in shared), wall
        others = set(peer_names()) - {floor}
        assert not [peer for peer in others for work in shared if all(subject(peer).can(verb) for verb in work.needs)]


def test_the_table_has_figures_with_their_floor_and_says_what_is_missing() -> None:
    rows = {"wall-boot-sandbox": {"ours": [300.0, 310.0, 290.0], "theirs": [280.0, 250.0, 260.0]}}
    text = table(rows)
    assert "300 (runsc 260: 1.15 ×)" in text and text.count("to be measured") == 24
    page = PAGE.read_text()
    assert table({}) in updated(page, {}) and updated(updated(page, rows), rows) == updated(page, rows) != page
