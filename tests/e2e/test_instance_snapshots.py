"""Snapshots, restores and copies of instances by unmodified clients, and of a database that is being written to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxc_client import Lxc
from snapshot_pools import POOLS, launch_then, snapshot_pool

_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LOADER = "/host/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
SQLITE = f"PYTHONHOME=/host LD_LIBRARY_PATH=/host/lib/x86_64-linux-gnu {_LOADER} /host/bin/{_PYTHON} -S"
"""The host's Python with its SQLite, in an instance that has the host's /usr at /host."""
WRITER = """
import hashlib, os, sqlite3
base = sqlite3.connect("/db/data", isolation_level=None)
base.execute("PRAGMA journal_mode=WAL")
base.execute("PRAGMA synchronous=FULL")
base.execute("CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, sum TEXT, filler BLOB)")
number = base.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()[0]
while True:
    number += 1
    base.execute("BEGIN IMMEDIATE")
    base.execute("INSERT INTO entries VALUES (?, ?, ?)",
                 (number, hashlib.sha256(str(number).encode()).hexdigest(), os.urandom(2000)))
    base.execute("COMMIT")
    with open("/db/acknowledged.new", "w") as file:
        file.write(str(number))
    os.rename("/db/acknowledged.new", "/db/acknowledged")
"""
CHECK = """
import hashlib, json, sqlite3
base = sqlite3.connect("/db/data")
whole = base.execute("PRAGMA integrity_check").fetchone()[0]
rows = base.execute("SELECT number, sum FROM entries ORDER BY number").fetchall()
right = all(number == place + 1 and sum == hashlib.sha256(str(number).encode()).hexdigest()
            for place, (number, sum) in enumerate(rows))
print(json.dumps([whole, right, len(rows)]))
"""


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, lxc: Lxc) -> Iterator[str]:
    with snapshot_pool(lxc, request.param) as name:
        yield name


def test_lxc(lxc: Lxc, pool: str) -> None:
    launch_then(lxc, pool)
    lxc("config", "set", "sn-one", "user.mark=then")
    lxc("snapshot", "sn-one")
    lxc("snapshot", "sn-one", "second")
    assert "snap0" in lxc("info", "sn-one") and "second" in lxc("info", "sn-one")
    assert "user.mark: then" in lxc("config", "show", "sn-one/snap0")
    lxc("exec", "sn-one", "--", "sh", "-c", "echo now > /file; echo more > /more")
    lxc("config", "set", "sn-one", "user.mark=now")
    address = lxc("config", "get", "sn-one", "volatile.eth0.hwaddr")
    lxc("restore", "sn-one", "snap0")
    assert lxc("exec", "sn-one", "--", "cat", "/file") == "then\n"
    lxc("exec", "sn-one", "--", "cat", "/more", status=1)
    assert lxc("config", "get", "sn-one", "user.mark") == "then\n"
    assert lxc("config", "get", "sn-one", "volatile.eth0.hwaddr") == address
    lxc("rename", "sn-one/second", "sn-one/third")
    lxc("delete", "sn-one/third")
    lxc("delete", "sn-one/third", status=1)
    lxc("stop", "--force", "sn-one")
    lxc("restore", "sn-one", "snap0")
    assert json.loads(lxc("list", "--format", "json", "sn-one"))[0]["snapshots"][0]["name"] == "snap0"


def test_lxc_copies(lxc: Lxc, pool: str) -> None:
    launch_then(lxc, pool, "; mkdir /mine; chown 33:44 /mine")
    lxc("snapshot", "sn-one")
    lxc("exec", "sn-one", "--", "sh", "-c", "echo now > /file")
    lxc("copy", "sn-one", "sn-two")
    lxc("copy", "sn-one/snap0", "sn-three")
    lxc("copy", "sn-one", "sn-four", "--instance-only", "-c", "user.mark=copied")
    lxc("start", "sn-two", "sn-three", "sn-four")
    for name, text in (("sn-two", "now"), ("sn-three", "then"), ("sn-four", "now")):
        assert lxc("exec", name, "--", "cat", "/file") == f"{text}\n"
        assert lxc("exec", name, "--", "stat", "-c", "%u:%g", "/mine") == "33:44\n"
        assert lxc("exec", name, "--", "hostname") == f"{name}\n"
    listed = {each["name"]: each for each in json.loads(lxc("list", "--format", "json"))}
    assert [each["name"] for each in listed["sn-two"]["snapshots"]] == ["snap0"]
    assert not listed["sn-four"]["snapshots"] and listed["sn-four"]["config"]["user.mark"] == "copied"
    macs = {listed[name]["config"]["volatile.eth0.hwaddr"] for name in ("sn-one", "sn-two", "sn-three", "sn-four")}
    assert len(macs) == 4
    lxc("restore", "sn-two", "snap0")
    assert lxc("exec", "sn-two", "--", "cat", "/file") == "then\n"
    assert lxc("exec", "sn-two", "--", "stat", "-c", "%u:%g", "/mine") == "33:44\n"
    lxc("stop", "--force", "sn-four")
    lxc("move", "sn-four", "sn-five")
    assert "sn-five" in lxc("list", "--format", "csv")
    lxc("delete", "--force", "sn-one")
    assert lxc("exec", "sn-three", "--", "cat", "/file") == "then\n"


def test_the_size_of_a_root(lxc: Lxc) -> None:
    lxc("storage", "create", "sized", "btrfs", "size=512MiB")
    lxc("launch", "tiny", "sn-sized", "--storage", "sized")
    lxc("config", "device", "set", "sn-sized", "root", "size=64MiB")
    fill = ("exec", "sn-sized", "--", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=100", "conv=fsync")
    lxc(*fill, status=1)
    lxc("snapshot", "sn-sized")
    lxc("config", "device", "set", "sn-sized", "root", "size=300MiB")
    lxc(*fill)
    lxc("restore", "sn-sized", "snap0")
    assert lxc("config", "device", "get", "sn-sized", "root", "size") == "64MiB\n"
    lxc(*fill, status=1)
    lxc("delete", "--force", "sn-sized")
    lxc("storage", "delete", "sized")
    lxc("init", "tiny", "sn-sized", "--device", "root,size=64MiB", status=1)


def test_a_database_is_consistent_after_a_restore(lxc: Lxc, pool: str, tmp_path: Path) -> None:
    for name, text in (("writer.py", WRITER), ("check.py", CHECK)):
        (tmp_path / name).write_text(text)
    lxc("launch", "tiny", "sn-db", "--storage", pool)
    lxc("config", "device", "add", "sn-db", "usr", "disk", "source=/usr", "path=/host", "readonly=true")
    lxc("exec", "sn-db", "--", "mkdir", "/db")
    for name in ("writer.py", "check.py"):
        lxc("file", "push", str(tmp_path / name), f"sn-db/{name}")
    lxc("exec", "sn-db", "--", "sh", "-c", f"({SQLITE} /writer.py >/log 2>&1 &)")
    for attempt in range(3):
        before = _acknowledged(lxc, attempt * 20 + 20)
        lxc("snapshot", "sn-db", f"at{attempt}")
        assert _acknowledged(lxc, before + 5) > before  # it continues afterwards
        lxc("restore", "sn-db", f"at{attempt}")
        whole, right, rows = json.loads(lxc("exec", "sn-db", "--", "sh", "-c", f"{SQLITE} /check.py"))
        assert (whole, right) == ("ok", True)
        assert rows >= before
        lxc("exec", "sn-db", "--", "sh", "-c", f"({SQLITE} /writer.py >/log 2>&1 &)")


def _acknowledged(lxc: Lxc, least: int) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        text = lxc("exec", "sn-db", "--", "sh", "-c", "cat /db/acknowledged 2>/dev/null || echo 0")
        if int(text) >= least:
            return int(text)
        time.sleep(0.1)
    raise AssertionError(f"the database has no {least} entries: {lxc('exec', 'sn-db', '--', 'cat', '/log')}")
