"""Disks of containers that are the file system on a block device of the host; who may have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rest_door import Stand

from isola.host.nodes import DeviceNumber

STICK = Path("/dev/sdz1")
DISK = {"type": "disk", "source": str(STICK), "path": "/mnt/data", "shift": "true"}


async def plug(stand: Stand, kind: str = "ext4") -> None:
    nodes = stand.world.host.nodes
    nodes.devices[STICK] = DeviceNumber(False, 8, 1)
    nodes.file_systems[STICK] = kind
    await stand.world.host.files.make_directory(STICK.parent)
    await stand.world.host.files.write(STICK, b"")


async def started(stand: Stand, name: str = "web1", project: str = "default", **keys: str) -> tuple[int, str]:
    root = {"type": "disk", "path": "/", "pool": "default"}
    body: dict[str, Any] = {"name": name, "source": {"type": "none"}, "devices": {"root": root, "data": DISK | keys}}
    status, answer = await stand.ask("POST", f"/1.0/instances?project={project}", body)
    if status != 202:
        return status, answer["error"]
    ended = await stand.get(f"{answer['operation']}/wait?project={project}")
    if ended["status_code"] == 200:
        change = {"action": "start"}
        ended = await stand.finish("PUT", f"/1.0/instances/{name}/state?project={project}", change)
    return ended["status_code"], ended["err"]


async def test_its_file_system_is_mounted(stand: Stand) -> None:
    await plug(stand, "xfs")
    assert await started(stand, readonly="true") == (200, "")
    (graft,) = [each for each in stand.world.host.guest_mounts.grafts if each.source == STICK]
    assert (graft.file_system, graft.read_only, graft.recursive) == ("xfs", True, False)
    assert graft.idmap is not None, "shift=true"


async def test_what_has_no_file_system_is_refused(stand: Stand) -> None:
    await plug(stand, "")
    status, error = await started(stand)
    assert status == 400 and "no file system that can be mounted" in error


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ({}, "not allowed"),
        ({"restricted.devices.disk": "allow"}, "not mounted in project"),
        ({"restricted.devices.disk": "allow", "restricted.devices.unix-block": "allow"}, ""),
        (
            {
                "restricted.devices.disk": "allow",
                "restricted.devices.unix-block": "allow",
                "restricted.devices.disk.paths": "/dev",
            },
            "not mounted in project",
        ),
    ],
)
async def test_restricted_projects(stand: Stand, rules: dict[str, str], refused: str) -> None:
    await plug(stand)
    config = {"features.profiles": "false", "features.images": "false", "restricted": "true", **rules}
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue", "config": config}))[0] == 201
    keys = {"shift": "false"} if "restricted.devices.disk.paths" in rules else {}
    status, error = await started(stand, project="blue", **keys)
    assert (status == 200) == (not refused) and refused in error, (status, error)
