"""Custom volumes and directories of the host in running instances, by Debian's ``lxc`` and by ``isola``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import settled
from command import Cli
from lxc_client import Lxc


@pytest.fixture
def volume(lxc: Lxc, instance: str) -> Iterator[str]:
    """A custom volume, which is deleted after its users."""
    name = f"data-{instance}"
    lxc("storage", "volume", "create", "default", name)
    yield name
    if instance in lxc("list", "-c", "n", "-f", "csv"):
        lxc("delete", "--force", instance)
    lxc("storage", "volume", "delete", "default", name)


def sh(lxc: Lxc, name: str, script: str, status: int = 0) -> str:
    return lxc("exec", name, "--", "sh", "-c", script, status=status)


def test_two_running_instances_share_a_volume_that_survives_one(lxc: Lxc, instance: str, volume: str) -> None:
    lxc.daemon.launch("other")
    lxc("storage", "volume", "attach", "default", volume, "other", "data", "/data")
    lxc("storage", "volume", "attach", "default", volume, instance, "data", "/srv/data")
    sh(lxc, "other", "echo one >/data/file && chown 7:8 /data/file && chmod 600 /data/file")
    assert sh(lxc, instance, "cat /srv/data/file && stat -c %u:%g /srv/data/file") == "one\n7:8\n"
    sh(lxc, instance, "echo two >>/srv/data/file && mkdir /srv/data/dir")
    assert sh(lxc, "other", "cat /data/file && stat -c %u /data/dir") == "one\ntwo\n0\n"
    lxc("storage", "volume", "delete", "default", volume, status=1)
    assert "other" in lxc("storage", "volume", "show", "default", volume)
    lxc("delete", "--force", "other")
    assert sh(lxc, instance, "cat /srv/data/file") == "one\ntwo\n"
    lxc.daemon.kill()
    lxc.daemon.start()
    sh(lxc, instance, "echo three >>/srv/data/file")
    lxc("restart", "--force", instance)
    assert sh(lxc, instance, "tail -n 1 /srv/data/file") == "three\n"
    lxc("storage", "volume", "detach", "default", volume, instance)
    assert sh(lxc, instance, "ls /srv/data") == ""
    assert not settled(lxc.daemon)
    lxc("storage", "volume", "attach", "default", volume, instance, "again", "/again")
    assert sh(lxc, instance, "cat /again/file") == "one\ntwo\nthree\n"
    lxc("delete", "--force", instance)
    assert volume in lxc("storage", "volume", "list", "default")


def test_read_only_and_no_second_of_the_same_name_or_path(lxc: Lxc, isola: Cli, instance: str, volume: str) -> None:
    command = ("config", "device", "add", instance)
    isola(*command, "data", "disk", "pool=default", f"source={volume}", "path=/data", "readonly=true")
    sh(lxc, instance, "echo x >/data/file", status=1)
    isola("config", "device", "unset", instance, "data", "readonly")
    sh(lxc, instance, "echo x >/data/file")
    taken = isola(*command, "data", "disk", "source=tmpfs:", "path=/other", check=False)
    assert taken.returncode == 1 and "data" in taken.stderr
    for path in ("/data", "/data/", "//data"):
        same = isola(*command, "more", "disk", "source=tmpfs:", f"path={path}", check=False)
        assert same.returncode == 1 and "/data" in same.stderr, same.stderr
    missing = isola(*command, "more", "disk", "pool=default", "source=no-such", "path=/more", check=False)
    assert missing.returncode == 1 and "no-such" in missing.stderr
    assert isola("config", "device", "list", instance).stdout.count("data") == 1
    assert sh(lxc, instance, "grep -c ' /data ' /proc/mounts") == "1\n"


def test_used_mounts_are_detached_and_hidden_files_stay(lxc: Lxc, isola: Cli, instance: str, volume: str) -> None:
    lxc("storage", "volume", "attach", "default", volume, instance, "data", "/data")
    sh(
        lxc,
        instance,
        "echo kept >/data/file; (exec 3</data/file; sleep 2; cat <&3 >/tmp/read) >/dev/null 2>&1 </dev/null &",
    )
    lxc("storage", "volume", "detach", "default", volume, instance)
    assert (
        sh(
            lxc,
            instance,
            "i=0; while [ $i -lt 60 ] && ! [ -s /tmp/read ]; do sleep 1; i=$((i+1)); done; cat /tmp/read; ls /data",
        )
        == "kept\n"
    )
    lxc("storage", "volume", "attach", "default", volume, instance, "data", "/data/")
    sh(lxc, instance, "mount -t tmpfs none /data")
    said = isola("config", "device", "remove", instance, "data", check=False)
    if said.returncode == 0:
        assert sh(lxc, instance, "grep -c ' /data ' /proc/mounts || true") in ("0\n", "1\n")
    else:
        assert "data" in lxc("config", "device", "list", instance)
        sh(lxc, instance, "umount /data && cat /data/file")
        isola("config", "device", "remove", instance, "data")


def test_a_missing_path_is_named_unless_it_is_optional(lxc: Lxc, isola: Cli, instance: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("here")
    lxc("config", "device", "add", instance, "src", "disk", f"source={place}", "path=/src")
    assert sh(lxc, instance, "cat /src/file") == "here"
    shutil.rmtree(place)
    lxc("stop", "--force", instance)
    said = isola("start", instance, check=False)
    assert said.returncode == 1 and str(place) in said.stderr, said.stderr
    assert lxc.daemon.status(instance) == "Stopped" and not settled(lxc.daemon)
    lxc("config", "device", "set", instance, "src", "required=false")
    lxc("start", instance)
    place.mkdir()
    lxc("config", "device", "remove", instance, "src")


def test_recursive_and_owners(lxc: Lxc, instance: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "below"], check=True)
    try:
        (tmp_path / "below/deep").write_text("deep")
        (tmp_path / "mine").write_text("mine")
        add = ("config", "device", "add", instance, "src", "disk", f"source={tmp_path}", "path=/src")
        lxc(*add)
        assert sh(lxc, instance, "stat -c %u /src/mine; ls /src/below") == "65534\n"
        lxc("config", "device", "set", instance, "src", "recursive=true")
        assert sh(lxc, instance, "cat /src/below/deep") == "deep"
        lxc("config", "device", "remove", instance, "src")
        lxc(*add, "shift=true", "readonly=true")
        assert sh(lxc, instance, "stat -c %u /src/mine") == "0\n"
        sh(lxc, instance, "rm /src/mine", status=1)
        lxc("config", "device", "remove", instance, "src")
    finally:
        subprocess.run(["umount", "-l", tmp_path / "below"], check=True)


@pytest.mark.parametrize(
    ("source", "target"), [("btrfs", "dir"), ("dir", "overlay"), ("overlay", "btrfs"), ("btrfs", "btrfs")]
)
def test_a_copy_is_refreshed(lxc: Lxc, isola: Cli, instance: str, source: str, target: str) -> None:
    """The copy is attached in between, and keeps its configuration."""
    options = {"btrfs": ("size=512MiB",)}
    for driver in {source, target}:
        lxc("storage", "create", f"r-{driver}", driver, *options.get(driver, ()))
    one, two = (f"r-{source}", "one"), (f"r-{target}", "two")
    paths = "/".join(one), "/".join(two)
    try:
        lxc("storage", "volume", "create", *one)
        lxc("storage", "volume", "attach", *one, instance, "one", "/one")
        sh(lxc, instance, "echo then > /one/file; mkdir /one/kept; chown 33:44 /one/kept")
        lxc("storage", "volume", "snapshot", *one, "s1")
        lxc("storage", "volume", "copy", *paths, "--refresh")  # there is no copy yet
        lxc("storage", "volume", "set", *two, "user.a=b")
        lxc("storage", "volume", "attach", *two, instance, "two", "/two")
        assert sh(lxc, instance, "cat /two/file; echo lost > /two/own") == "then\n"
        sh(lxc, instance, "echo now > /one/file")
        lxc("storage", "volume", "snapshot", *one, "s2")
        lxc("storage", "volume", "copy", *paths, "--refresh", status=1)  # it is mounted
        lxc("storage", "volume", "detach", *two, instance)
        lxc("storage", "volume", "snapshot", *two, "own")
        lxc("storage", "volume", "copy", *paths, "--refresh")
        shown = f"/1.0/storage-pools/{two[0]}/volumes/custom/two"
        assert lxc.daemon.get(shown)["config"] == {"user.a": "b"}
        snapshots = lxc.daemon.get(f"{shown}/snapshots?recursion=1")
        assert [each["name"] for each in snapshots] == ["two/s1", "two/s2"]
        sh(lxc, instance, "echo last > /one/file")
        isola("storage", "volume", "copy", *paths, "--refresh", "--volume-only")
        lxc("storage", "volume", "attach", *two, instance, "two", "/two")
        assert sh(lxc, instance, "cat /two/file; stat -c %u:%g /two/kept; ls /two") == "last\n33:44\nfile\nkept\n"
        lxc("storage", "volume", "detach", *two, instance)
        lxc("storage", "volume", "restore", *two, "s1")
        lxc("storage", "volume", "attach", *two, instance, "two", "/two")
        assert sh(lxc, instance, "cat /two/file") == "then\n"
        lxc("storage", "volume", "detach", *two, instance)
        lxc("storage", "volume", "detach", *one, instance)
    finally:
        for place, name in (one, two):
            lxc("query", "-X", "DELETE", f"/1.0/storage-pools/{place}/volumes/custom/{name}")
        for driver in {source, target}:
            lxc("storage", "delete", f"r-{driver}")
