"""Where a path of a stopped instance is; pure."""

from __future__ import annotations

import pytest

from isola.instances.places import disk_at

DEVICES = {
    "root": {"type": "disk", "path": "/", "pool": "default"},
    "data": {"type": "disk", "path": "/data", "pool": "default", "source": "vol"},
    "inner": {"type": "disk", "path": "/data/in/", "source": "/srv"},
    "part": {"type": "disk", "path": "/part", "pool": "default", "source": "vol", "subpath": "a"},
    "piece": {"type": "disk", "path": "/piece", "pool": "default", "source": "vol/a"},
    "eth0": {"type": "nic", "path": "/net"},
    "short": {"type": "disk", "path": "mnt/x", "source": "/opt"},
    "drive": {"type": "disk", "pool": "default", "source": "block"},
}


@pytest.mark.parametrize(
    ("path", "source", "inner"),
    [
        ("/data", "vol", "/"),
        ("/data/", "vol", "/"),
        ("/data/.", "vol", "/."),
        ("data/a/b", "vol", "/a/b"),
        ("/data/a/", "vol", "/a/"),
        ("/data/a/.", "vol", "/a/."),
        ("/x/../data/a", "vol", "/a"),
        ("/data/in", "/srv", "/"),
        ("/data/in/x", "/srv", "/x"),
        ("/data/inside", "vol", "/inside"),
        ("/data/in/../y", "vol", "/y"),
        ("/mnt/x/y", "/opt", "/y"),
    ],
)
def test_the_longest_mount_point_has_the_path(path: str, source: str, inner: str) -> None:
    found = disk_at(DEVICES, path)
    assert found is not None and (found[0]["source"], found[1]) == (source, inner)


@pytest.mark.parametrize("path", ["/", "/etc/passwd", "/database", "/data/..", "/data/../etc", "/part/x", "/net/x"])
def test_other_paths_are_in_the_root(path: str) -> None:
    assert disk_at(DEVICES, path) is None
