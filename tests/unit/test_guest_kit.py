"""Finding the kernel and first file system of guests, and what is said when they are missing or damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from isola.errors import DriverUnavailable
from isola.runtimes.qemu.kit import VARIABLE, find


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for name in ("vmlinuz", "initramfs", "agent"):
        (tmp_path / name).write_bytes(name.encode())
    checksums = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("vmlinuz", "initramfs", "agent")}
    record = {"release": "6.1.0-1-cloud-amd64", "version": "6.1.1-1", "stamp": "abc", "checksums": checksums}
    (tmp_path / "kit.json").write_text(json.dumps(record))
    return tmp_path


def test_the_kit_names_its_files_and_versions(kit: Path) -> None:
    found = find()
    assert (found.kernel, found.initramfs, found.agent) == (kit / "vmlinuz", kit / "initramfs", kit / "agent")
    assert (found.release, found.version, found.stamp) == ("6.1.0-1-cloud-amd64", "6.1.1-1", "abc")
    assert found.damaged() == ()


def test_a_changed_file_is_damage(kit: Path) -> None:
    (kit / "initramfs").write_bytes(b"other")
    assert find().damaged() == ("initramfs",)


def test_a_missing_kit_says_where_it_was_sought_and_what_to_do(kit: Path) -> None:
    (kit / "kit.json").unlink()
    with pytest.raises(DriverUnavailable, match=str(kit)) as caught:
        find()
    assert "make up" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", '{"release": 1}', '{"release": "a", "version": "b", "stamp": "c"}'])
def test_a_damaged_record_is_said_to_be_that(kit: Path, text: str) -> None:
    (kit / "kit.json").write_text(text)
    with pytest.raises(DriverUnavailable, match="damaged"):
        find()


@pytest.mark.parametrize("effect", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_kit_without_its_kernel_is_not_used(kit: Path, effect: object) -> None:
    assert callable(effect)
    effect(kit / "vmlinuz")
    with pytest.raises(DriverUnavailable):
        find()


def test_an_unpacked_kernel_is_preferred_and_belongs_to_the_kit(kit: Path) -> None:
    record = json.loads((kit / "kit.json").read_text())
    record["checksums"]["vmlinux"] = hashlib.sha256(b"unpacked").hexdigest()
    (kit / "kit.json").write_text(json.dumps(record))
    with pytest.raises(DriverUnavailable, match="damaged"):
        find()
    (kit / "vmlinux").write_bytes(b"unpacked")
    found = find()
    assert (found.kernel, found.packed_kernel, found.damaged()) == (kit / "vmlinux", kit / "vmlinuz", ())
    (kit / "vmlinux").write_bytes(b"changed")
    assert find().damaged() == ("vmlinux",)
