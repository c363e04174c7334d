"""Every documented field exists with its documented type; additional fields are listed here.

The fields are those of the LXD 5.0 API description.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest_door import Stand, standing

from isola.doors.rest.extensions import EXTENSIONS
from isola.model.image import Alias

S, N, B, L, M = str, int, bool, list, dict
INSTANCE = {
    "architecture": S, "config": M, "created_at": S, "description": S, "devices": M, "ephemeral": B,
    "expanded_config": M, "expanded_devices": M, "last_used_at": S, "location": S, "name": S, "profiles": L,
    "project": S, "stateful": B, "status": S, "status_code": N, "type": S,
}  # fmt: skip
STATE = {
    "cpu": M, "disk": M, "memory": M, "network": M, "pid": N, "processes": N, "status": S, "status_code": N,
}  # fmt: skip
IMAGE = {
    "aliases": L, "architecture": S, "auto_update": B, "cached": B, "created_at": S, "expires_at": S, "filename": S,
    "fingerprint": S, "last_used_at": S, "profiles": L, "properties": M, "public": B, "size": N, "type": S,
    "uploaded_at": S,
}  # fmt: skip
OPERATION = {
    "class": S, "created_at": S, "description": S, "err": S, "id": S, "location": S, "may_cancel": B, "metadata": M,
    "resources": M, "status": S, "status_code": N, "updated_at": S,
}  # fmt: skip
SERVER = {
    "api_extensions": L, "api_status": S, "api_version": S, "auth": S, "auth_methods": L, "config": M,
    "environment": M, "public": B,
}  # fmt: skip
ENVIRONMENT = {
    "addresses": L, "architectures": L, "certificate": S, "certificate_fingerprint": S, "driver": S,
    "driver_version": S, "firewall": S, "kernel": S, "kernel_architecture": S, "kernel_features": M,
    "kernel_version": S, "lxc_features": M, "os_name": S, "os_version": S, "project": S, "server": S,
    "server_clustered": B, "server_event_mode": S, "server_name": S, "server_pid": N, "server_version": S,
    "instance_types": L, "storage": S, "storage_supported_drivers": L, "storage_version": S,
}  # fmt: skip
NETWORK = {
    "config": M, "description": S, "locations": L, "managed": B, "name": S, "status": S, "type": S, "used_by": L,
}  # fmt: skip
POOL = {"config": M, "description": S, "driver": S, "locations": L, "name": S, "status": S, "used_by": L}
VOLUME = {
    "config": M, "content_type": S, "description": S, "location": S, "name": S, "pool": S, "type": S, "used_by": L,
}  # fmt: skip
PROFILE = {"config": M, "description": S, "devices": M, "name": S, "used_by": L}
PROJECT = {"config": M, "description": S, "name": S, "used_by": L}
LEASE = {"address": S, "hostname": S, "hwaddr": S, "location": S, "type": S}
ALIAS = {"description": S, "name": S, "target": S, "type": S}
RESOURCES = {"cpu": M, "gpu": M, "memory": M, "network": M, "pci": M, "storage": M, "system": M, "usb": M}
METADATA = {"architecture": S, "creation_date": N, "expiry_date": N, "properties": M, "templates": M}
ENVELOPE = {
    "type": S, "status": S, "status_code": N, "operation": S, "error_code": N, "error": S, "metadata": object,
}  # fmt: skip
FULL = {**INSTANCE, "backups": L, "snapshots": L, "state": M}
OURS = {"isolation", "runtime", "system", "source", "started_at", "project", "directory", "runtimes", "drivers"} | {
    "created_at", "auth_user_name", "auth_user_method", "image_offers", "kernel_limits", "warnings",
    "last_run", "health", "program", "isolations", "wall",
}  # fmt: skip


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        source = {"type": "image", "alias": "tiny"}
        ended = await open_door.finish("POST", "/1.0/instances", {"name": "web1", "source": source, "start": True})
        assert ended["status"] == "Success", ended
        (image,) = open_door.services.images
        await open_door.services.images.add_alias(Alias("deb", image.fingerprint))
        yield open_door


def _check(value: Any, fields: dict[str, type], ours: set[str] = OURS) -> None:
    assert isinstance(value, dict)
    assert set(fields) - set(value) == set(), "documented and missing"
    assert set(value) - set(fields) - ours == set(), "neither documented nor an extension"
    for name, kind in fields.items():
        assert isinstance(value[name], kind), (name, value[name])
        assert kind is not int or not isinstance(value[name], bool)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/1.0", SERVER),
        ("/1.0/resources", RESOURCES),
        ("/1.0/instances?recursion=1", [INSTANCE]),
        ("/1.0/instances?recursion=2", [FULL]),
        ("/1.0/instances/web1", INSTANCE),
        ("/1.0/instances/web1?recursion=1", FULL),
        ("/1.0/instances/web1/state", STATE),
        ("/1.0/instances/web1/metadata", METADATA),
        ("/1.0/images?recursion=1", [IMAGE]),
        ("/1.0/images/aliases?recursion=1", [ALIAS]),
        ("/1.0/images/aliases/deb", ALIAS),
        ("/1.0/networks?recursion=1", [NETWORK]),
        ("/1.0/networks/isolabr0", NETWORK),
        ("/1.0/networks/isolabr0/leases", [LEASE]),
        ("/1.0/storage-pools?recursion=1", [POOL]),
        ("/1.0/storage-pools/default", POOL),
        ("/1.0/storage-pools/default/volumes?recursion=1", [VOLUME]),
        ("/1.0/profiles?recursion=1", [PROFILE]),
        ("/1.0/projects?recursion=1", [PROJECT]),
    ],
)
async def test_answers_have_the_documented_fields(stand: Stand, path: str, fields: Any) -> None:
    shown = await stand.get(path)
    if isinstance(fields, list):
        assert shown
        for one in shown:
            _check(one, fields[0])
    else:
        _check(shown, fields)


async def test_the_environment_has_the_documented_fields(stand: Stand) -> None:
    environment = (await stand.get("/1.0"))["environment"]
    _check(environment, ENVIRONMENT)
    assert environment["storage_supported_drivers"] == [{"Name": "overlay", "Version": "1", "Remote": False}]
    assert [probe["name"] for probe in environment["drivers"]["storage"]] == ["btrfs", "overlay"]
    assert environment["runtimes"][0]["remedy"] == "use runc"
    assert environment["runtimes"][0]["emulated"] is False


async def test_envelopes_have_the_documented_fields(stand: Stand) -> None:
    _, sync = await stand.ask("GET", "/1.0/instances")
    _check(sync, ENVELOPE)
    assert (sync["type"], sync["status"], sync["status_code"]) == ("sync", "Success", 200)
    async with stand.session.put("http://isola/1.0/instances/web1/state", json={"action": "stop"}) as answer:
        begun = await answer.json()
        assert (answer.status, answer.headers["Location"]) == (202, begun["operation"])
    _check(begun, ENVELOPE)
    assert (begun["type"], begun["status"], begun["status_code"]) == ("async", "Operation created", 100)
    _check({**begun["metadata"], "metadata": {}}, OPERATION)
    _, error = await stand.ask("GET", "/1.0/instances/nope")
    _check(error, ENVELOPE)
    assert (error["type"], error["error_code"]) == ("error", 404)
    assert error["metadata"].keys() == {"code", "message", "field", "remedy", "evidence"}


async def test_operations_are_a_map_by_status(stand: Stand) -> None:
    groups = await stand.get("/1.0/operations?recursion=1")
    assert set(groups) == {"success"}
    for operation in groups["success"]:
        _check({**operation, "metadata": {}, "resources": {}}, OPERATION)


def test_every_extension_is_described() -> None:
    assert all(EXTENSIONS.values())
    assert "clustering" not in EXTENSIONS
    assert "container_backup" not in EXTENSIONS
