"""Discovery of workloads by the bench, the selection by ONLY, and the program that is measured."""

import subprocess
from pathlib import Path

import pytest
from bench import catalogue, program, rounds
from bench.shell import Trouble
from bench.workloads.launching import rate

WORKLOADS = ["plug-nic", "snapshot-btrfs", "snapshot-dir"]
PEERS = ["incus", "runc"]


def test_every_workload_has_a_name_of_its_own() -> None:
    found = catalogue.workloads()
    titles = [workload.title for workload in found.values()]
    assert len(set(titles)) == len(titles)
    for driver in ("btrfs", "dir"):
        assert {f"snapshot-{driver}", f"restore-{driver}", f"copy-{driver}", f"plug-disk-{driver}"} <= found.keys()


def test_targets_name_peers_that_can_do_the_work() -> None:
    for workload in catalogue.workloads().values():
        for peer in workload.targets:
            kinds = [catalogue.subject(peer), catalogue.subject(catalogue.OURS)]
            assert all(kind.can(verb) for kind in kinds for verb in workload.needs), (workload.name, peer)


def test_workloads_of_one_setting_are_neighbours_that_need_the_same() -> None:
    groups = [group for group in rounds.settings(list(catalogue.workloads().values())) if group[0].setting]
    assert len({group[0].setting for group in groups}) == len(groups)
    for group in groups:
        assert len({workload.prepare.__func__ for workload in group}) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("only", "workloads", "peers"),
    [
        ("", WORKLOADS, PEERS),
        ("incus", WORKLOADS, ["incus"]),
        ("plug-nic", ["plug-nic"], PEERS),
        ("snapshot-*,incus", ["snapshot-btrfs", "snapshot-dir"], ["incus"]),
    ],
)
def test_only_selects(only: str, workloads: list[str], peers: list[str]) -> None:
    assert catalogue.chosen(only, WORKLOADS, PEERS) == (workloads, peers)


def test_only_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match="snapshots is neither a workload nor a peer: plug-nic, "):
        catalogue.chosen("plug-nic,snapshots", WORKLOADS, PEERS)


def test_measures_the_installed_program_or_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(program.VARIABLE, program.INSTALLED)
    assert program.command("isola") == "/usr/local/bin/isola"
    program.use_checkout(tmp_path / "bin")
    assert program.command("isolad") == str(tmp_path / "bin" / "isolad")
    done = subprocess.run([program.command("isola"), "--version"], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip()


PRINTED = """\
[Nov 21 21:37:31.504] Processed 64 containers in 12.815s (4.994/s)
[Nov 21 21:37:31.504] Batch processing completed in 12.815s
"""


def test_reads_the_figure_of_lxd_benchmark() -> None:
    assert rate(PRINTED) == 4.994


@pytest.mark.parametrize(
    "printed",
    [
        PRINTED.replace("64 containers", "60 containers"),
        PRINTED.splitlines()[0] + "\n",
        "[Nov 21 21:37:30.000] Failed to launch container 'benchmark-07': no\n" + PRINTED,
        "",
    ],
)
def test_refuses_a_figure_of_fewer_instances(printed: str) -> None:
    with pytest.raises(Trouble):
        rate(printed)
