"""Kernel limits that the installation raises, with a directory in place of /proc/sys."""

from __future__ import annotations

import subprocess
from pathlib import Path

TREE = Path(__file__).parents[2]
SCRIPT = TREE / "install/sysctls"
INSTANCES, WATCHES = "fs/inotify/max_user_instances", "fs/inotify/max_user_watches"


def kernel(place: Path, **values: int) -> Path:
    for name, value in values.items():
        file = place / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return place


def run(file: Path, place: Path) -> list[str]:
    subprocess.run([str(SCRIPT), str(file), str(place)], check=True)
    return file.read_text().splitlines() if file.exists() else []


def test_lower_limits_are_raised_and_none_is_lowered(tmp_path: Path) -> None:
    place = kernel(tmp_path / "sys", fs__inotify__max_user_instances=128, fs__inotify__max_user_watches=99999999)
    file = tmp_path / "sysctl.d/30-isola.conf"
    assert run(file, place) == ["fs.inotify.max_user_instances = 1024"]
    assert (place / INSTANCES).read_text().strip() == "1024"
    assert (place / WATCHES).read_text().strip() == "99999999"


def test_a_second_run_keeps_what_the_first_has_written(tmp_path: Path) -> None:
    place = kernel(tmp_path / "sys", fs__inotify__max_user_instances=128)
    first = run(tmp_path / "file", place)
    assert run(tmp_path / "file", place) == first != []


def test_a_host_that_allows_more_gets_no_file(tmp_path: Path) -> None:
    assert run(tmp_path / "file", kernel(tmp_path / "sys", fs__inotify__max_user_instances=8192)) == []


def test_installed_files_are_uninstalled() -> None:
    assert "install/sysctls" in (TREE / "install/program").read_text()
    assert "/etc/sysctl.d/30-isola.conf" in SCRIPT.read_text()
    assert "/etc/sysctl.d/30-isola.conf" in (TREE / "install/uninstall").read_text()
