"""Limits in the files of control groups v2, as a machine with several memory nodes shows them."""

from pathlib import Path

import pytest

from isola.host.cgroup_v2 import UnifiedTree
from isola.model.limits import Limits

FILES = ("memory.max", "memory.low", "pids.max", "cpu.max", "cpu.weight", "io.max", "io.weight")


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Of a machine with two nodes and four CPUs; the group has one node and one CPU."""
    place = tmp_path / "one"
    place.mkdir()
    for name in FILES:
        (place / name).touch()
    for directory, nodes, cpus in ((tmp_path, "0-1", "0-3"), (place, "1", "2")):
        for kind, value in (("mems", nodes), ("cpus", cpus)):
            (directory / f"cpuset.{kind}").write_text(value if directory is place else "")
            (directory / f"cpuset.{kind}.effective").write_text(value)
    return place


def chosen(group: Path) -> tuple[str, str]:
    return (group / "cpuset.mems").read_text(), (group / "cpuset.cpus").read_text()


def test_nodes_and_cpus_are_set_and_cleared(tmp_path: Path, group: Path) -> None:
    tree = UnifiedTree(tmp_path)
    tree.limit("/one", Limits(memory_nodes=(0,), cpus=(1, 3)))
    assert chosen(group) == ("0", "1,3")
    for kind in ("mems", "cpus"):  # unlike the kernel's, an ordinary file keeps what is not written over
        (group / f"cpuset.{kind}").write_text("1")
    tree.limit("/one", Limits())
    assert [text.strip() for text in chosen(group)] == ["", ""]


def test_what_the_kernel_names_is_delegated_too(tmp_path: Path) -> None:
    (tmp_path / "delegate").write_text("cgroup.procs\nmemory.reclaim\n../memory.high\n")
    always = ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group")
    assert UnifiedTree(tmp_path, tmp_path / "delegate").delegated == (*always, "memory.reclaim")
    assert UnifiedTree(tmp_path, tmp_path / "missing").delegated == always


@pytest.mark.parametrize(
    ("enabled", "always", "of_leaf", "name"),
    [
        ("", False, ("domain", "", "0"), ""),
        ("", True, ("domain", "", "0"), ".isola"),
        ("cpu pids\n", False, ("domain\n", "\n", "0\n"), ".isola"),
        ("cpu pids\n", False, ("threaded\n", "", "0\n"), ""),
        ("cpu pids\n", True, ("domain\n", "pids\n", "0\n"), ""),
        ("cpu pids\n", True, ("domain\n", "", "1\n"), ""),
    ],
    ids=["undivided", "always", "divided", "threaded", "divided below", "frozen"],
)
def test_a_divided_group_is_joined_in_a_leaf(
    tmp_path: Path, enabled: str, always: bool, of_leaf: tuple[str, str, str], name: str
) -> None:
    leaf = tmp_path / "one" / ".isola"
    leaf.mkdir(parents=True)
    (tmp_path / "one" / "cgroup.subtree_control").write_text(enabled)
    for file, text in zip(("type", "subtree_control", "freeze"), of_leaf, strict=True):
        (leaf / f"cgroup.{file}").write_text(text)
    assert UnifiedTree(tmp_path).leaf("/one", None, always=always) == name


def test_reserved_memory_is_the_sum_of_those_below(tmp_path: Path) -> None:
    """The kernel counts a reservation only as far as that of the parent reaches."""
    tree, parent = UnifiedTree(tmp_path), tmp_path / "all"
    for place in (parent, parent / "one", parent / "two", parent / "monitor"):
        place.mkdir()
        for name in FILES:
            (place / name).write_text("0")
    tree.limit("/all/one", Limits())
    assert (parent / "memory.low").read_text() == "0"
    tree.limit("/all/one", Limits(memory_reserved=3000))
    tree.limit("/all/two", Limits(memory_reserved=5000))
    assert (parent / "memory.low").read_text() == "8000"
    for file in (parent / "two").iterdir():
        file.unlink()
    assert tree.remove_once("/all/two")
    assert (parent / "memory.low").read_text() == "3000"
