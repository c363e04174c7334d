"""The bench removes objects of its subjects, and no others."""

from pathlib import Path

from bench import catalogue, sandbox


def hierarchy(root: Path, *groups: str) -> Path:
    top = root / "memory"
    top.mkdir(parents=True, exist_ok=True)
    (top / "cgroup.procs").touch()
    for group in groups:
        (top / group).mkdir(parents=True)
    return top


def test_removes_only_what_was_made_meanwhile_and_is_named(tmp_path: Path) -> None:
    top = hierarchy(tmp_path, "docker/old", "isola-1234/instance")
    before = sandbox.cgroup_tops(tmp_path)
    for group in ("lxc.payload.bench-a/init.scope", "lxc.payload.other", "isola-5678/instance"):
        (top / group).mkdir(parents=True)
    patterns = ("docker", "lxc.payload.bench-*")
    assert sandbox.remove_cgroups(patterns, before, tmp_path) == []
    left = sorted(path.name for path in top.iterdir() if path.is_dir())
    assert left == ["docker", "isola-1234", "isola-5678", "lxc.payload.other"]


def test_the_pattern_of_isola_matches_one_daemon(tmp_path: Path) -> None:
    groups = catalogue.subject("isola").control_groups(tmp_path)
    assert len(groups) == 1
    assert groups[0].startswith("isola-")
    assert "*" not in groups[0]
    assert groups != catalogue.subject("isola").control_groups(tmp_path / "other")


def test_claims_of_one_daemon_are_removed(tmp_path: Path) -> None:
    for number, holder in enumerate(("/tmp/bench-1/isola/a", "/tmp/bench-12/isola/b", "/var/lib/isola/c")):
        (tmp_path / str(number)).symlink_to(holder)
    sandbox.remove_claims(Path("/tmp/bench-1"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    sandbox.remove_claims(Path("/tmp/bench-1"), tmp_path / "none")
