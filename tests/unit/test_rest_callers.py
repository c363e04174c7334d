"""Operations and events of all changes over the REST API name the caller, never the daemon."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from https_peer import der_of, pair
from rest_door import Stand

from isola.doors.rest.routing import all_routes
from isola.model.caller import Credential
from isola.model.event import EventKind, Lifecycle
from isola.model.operation import OperationView
from isola.model.reference import Entity, Kind
from isola.model.warning import WarningType
from isola.x509 import parse

WEB, VOLUMES = "/1.0/instances/web1", "/1.0/storage-pools/default/volumes"
DATA, POOL = f"{VOLUMES}/custom/data", "/1.0/storage-pools/fast"
BLOBS = "image-content"
NOTHING: dict[str, Any] = {}
TINY = {"name": "web1", "source": {"type": "image", "alias": "tiny"}}
RUNS = {"command": ["true"], "wait-for-websocket": False, "record-output": True}

WALK: list[tuple[str, str, Any]] = [
    ("POST /1.0/projects", "/1.0/projects", {"name": "blue"}),
    ("PUT /1.0/projects/{project}", "/1.0/projects/blue", {"description": "a"}),
    ("PATCH /1.0/projects/{project}", "/1.0/projects/blue", {"description": "b"}),
    ("POST /1.0/projects/{project}", "/1.0/projects/blue", {"name": "green"}),
    ("DELETE /1.0/projects/{project}", "/1.0/projects/green", None),
    ("POST /1.0/profiles", "/1.0/profiles", {"name": "small"}),
    ("PUT /1.0/profiles/{name}", "/1.0/profiles/small", {"description": "a"}),
    ("PATCH /1.0/profiles/{name}", "/1.0/profiles/small", {"description": "b"}),
    ("POST /1.0/profiles/{name}", "/1.0/profiles/small", {"name": "large"}),
    ("DELETE /1.0/profiles/{name}", "/1.0/profiles/large", None),
    ("POST /1.0/networks", "/1.0/networks", {"name": "lan"}),
    ("PUT /1.0/networks/{name}", "/1.0/networks/lan", {"description": "a", "config": {}}),
    ("PATCH /1.0/networks/{name}", "/1.0/networks/lan", {"description": "b"}),
    ("POST /1.0/networks/{name}", "/1.0/networks/lan", {"name": "wan"}),
    ("DELETE /1.0/networks/{name}", "/1.0/networks/wan", None),
    ("POST /1.0/storage-pools", "/1.0/storage-pools", {"name": "fast", "driver": "overlay"}),
    ("PUT /1.0/storage-pools/{pool}", POOL, {"description": "a", "config": {}}),
    ("PATCH /1.0/storage-pools/{pool}", POOL, {"description": "b"}),
    ("DELETE /1.0/storage-pools/{pool}", POOL, None),
    ("POST /1.0/images/aliases", "/1.0/images/aliases", {"name": "a", "target": "FINGERPRINT"}),
    ("PUT /1.0/images/aliases/{alias...}", "/1.0/images/aliases/a", {"target": "FINGERPRINT", "description": "a"}),
    ("PATCH /1.0/images/aliases/{alias...}", "/1.0/images/aliases/a", {"description": "b"}),
    ("POST /1.0/images/aliases/{alias...}", "/1.0/images/aliases/a", {"name": "b"}),
    ("DELETE /1.0/images/aliases/{alias...}", "/1.0/images/aliases/b", None),
    ("POST /1.0/images/aliases", "/1.0/images/aliases", {"name": "team/app:1", "target": "FINGERPRINT"}),
    (
        "DELETE /1.0/isola/registry/repositories/{name...}",
        "/1.0/isola/registry/repositories/team/app?tag=1",
        None,
    ),
    ("POST /1.0/isola/registry/tokens", "/1.0/isola/registry/tokens", {"name": "ci"}),
    ("DELETE /1.0/isola/registry/tokens/{name}", "/1.0/isola/registry/tokens/ci", None),
    ("PUT /1.0/images/{fingerprint}", "/1.0/images/FINGERPRINT", {"properties": {"os": "a"}}),
    ("PATCH /1.0/images/{fingerprint}", "/1.0/images/FINGERPRINT", {"properties": {"os": "b"}}),
    ("POST /1.0/images/{fingerprint}/secret", "/1.0/images/FINGERPRINT/secret", NOTHING),
    ("POST /1.0/instances", "/1.0/instances", TINY),
    ("PUT /1.0/instances/{name}", WEB, {"description": "a", "profiles": ["default"]}),
    ("PATCH /1.0/instances/{name}", WEB, {"description": "b"}),
    ("PUT /1.0/instances/{name}/state", f"{WEB}/state", {"action": "start"}),
    ("POST /1.0/instances/{name}/exec", f"{WEB}/exec", RUNS),
    ("POST /1.0/instances/{name}/learning", f"{WEB}/learning", None),
    ("DELETE /1.0/instances/{name}/learning", f"{WEB}/learning", None),
    ("POST /1.0/instances/{name}/files", f"{WEB}/files?path=/sbin/new", b"data"),
    ("DELETE /1.0/instances/{name}/files", f"{WEB}/files?path=/sbin/new", None),
    ("DELETE /1.0/instances/{name}/logs/exec-output/{output...}", f"{WEB}/logs/exec-output/exec_1.stdout", None),
    ("DELETE /1.0/instances/{name}/logs/{file...}", f"{WEB}/logs/runtime.log", None),
    ("PUT /1.0/instances/{name}/metadata", f"{WEB}/metadata", {"architecture": "x86_64"}),
    ("PATCH /1.0/instances/{name}/metadata", f"{WEB}/metadata", {"properties": {"os": "a"}}),
    ("POST /1.0/instances/{name}/metadata/templates", f"{WEB}/metadata/templates?path=a", b"text"),
    ("DELETE /1.0/instances/{name}/metadata/templates", f"{WEB}/metadata/templates?path=a", None),
    ("POST /1.0/instances/{name}/console", f"{WEB}/console", NOTHING),
    ("DELETE /1.0/instances/{name}/console", f"{WEB}/console", None),
    ("POST /1.0/instances/{name}/attach", f"{WEB}/attach", NOTHING),
    ("POST /1.0/instances/{name}/signal", f"{WEB}/signal", {"signal": "HUP"}),
    ("PUT /1.0/instances", "/1.0/instances", {"state": {"action": "stop", "force": True}}),
    ("POST /1.0/instances/{name}/snapshots", f"{WEB}/snapshots", {"name": "one"}),
    ("PUT /1.0/instances/{name}/snapshots/{snapshot}", f"{WEB}/snapshots/one", {"expires_at": "2099-01-01T00:00:00Z"}),
    ("PATCH /1.0/instances/{name}/snapshots/{snapshot}", f"{WEB}/snapshots/one", {"expires_at": None}),
    ("POST /1.0/instances/{name}/snapshots/{snapshot}", f"{WEB}/snapshots/one", {"name": "two"}),
    ("DELETE /1.0/instances/{name}/snapshots/{snapshot}", f"{WEB}/snapshots/two", None),
    ("POST /1.0/instances/{name}", WEB, {"name": "web2"}),
    ("DELETE /1.0/instances/{name}", "/1.0/instances/web2", None),
    ("POST /1.0/storage-pools/{pool}/volumes", VOLUMES, {"name": "other", "type": "custom"}),
    ("POST /1.0/storage-pools/{pool}/volumes/{type}", f"{VOLUMES}/custom", {"name": "data"}),
    ("PUT /1.0/storage-pools/{pool}/volumes/{type}/{volume}", DATA, {"description": "a", "config": {}}),
    ("PATCH /1.0/storage-pools/{pool}/volumes/{type}/{volume}", DATA, {"description": "b"}),
    ("POST /1.0/storage-pools/{pool}/volumes/{type}/{volume}/snapshots", f"{DATA}/snapshots", {"name": "one"}),
    (
        "PUT /1.0/storage-pools/{pool}/volumes/{type}/{volume}/snapshots/{snapshot}",
        f"{DATA}/snapshots/one",
        {"description": "a"},
    ),
    (
        "PATCH /1.0/storage-pools/{pool}/volumes/{type}/{volume}/snapshots/{snapshot}",
        f"{DATA}/snapshots/one",
        {"description": "b"},
    ),
    ("PUT /1.0/storage-pools/{pool}/volumes/{type}/{volume}", DATA, {"restore": "one"}),
    (
        "POST /1.0/storage-pools/{pool}/volumes/{type}/{volume}/snapshots/{snapshot}",
        f"{DATA}/snapshots/one",
        {"name": "two"},
    ),
    (
        "DELETE /1.0/storage-pools/{pool}/volumes/{type}/{volume}/snapshots/{snapshot}",
        f"{DATA}/snapshots/two",
        None,
    ),
    ("POST /1.0/storage-pools/{pool}/volumes/{type}/{volume}", DATA, {"name": "moved"}),
    ("DELETE /1.0/storage-pools/{pool}/volumes/{type}/{volume}", f"{VOLUMES}/custom/moved", None),
    ("DELETE /1.0/operations/{id}", "/1.0/operations/SECRET", None),
    ("PUT /1.0/warnings/{id}", "/1.0/warnings/WARNING", {"status": "acknowledged"}),
    ("PATCH /1.0/warnings/{id}", "/1.0/warnings/WARNING", {"status": "new"}),
    ("DELETE /1.0/warnings/{id}", "/1.0/warnings/WARNING", None),
    (
        "POST /1.0/isola/unknown",
        "/1.0/isola/unknown",
        {"action": "remove", "type": "image-content", "id": "image-content"},
    ),
    ("DELETE /1.0/isola/builds/cache", "/1.0/isola/builds/cache", None),
    ("POST /1.0/certificates", "/1.0/certificates", {"type": "client", "certificate": "SHOWN"}),
    ("PUT /1.0/certificates/{fingerprint}", "/1.0/certificates/SHOWN", {"name": "a", "type": "client"}),
    ("PATCH /1.0/certificates/{fingerprint}", "/1.0/certificates/SHOWN", {"name": "b"}),
    ("DELETE /1.0/certificates/{fingerprint}", "/1.0/certificates/SHOWN", None),
    ("PUT /1.0", "/1.0", {"config": {}}),
    ("PATCH /1.0", "/1.0", {"config": {}}),
    ("DELETE /1.0/images/{fingerprint}", "/1.0/images/FINGERPRINT", None),
]
"""Route, path and body, in an order in which each finds its objects."""
ELSEWHERE = {
    "POST /1.0/images": "needs an upload: every import goes the way of the one in tests of images",
    "POST /1.0/isola/deployments": "waits for time to pass: tests of deployments name the caller",
    "POST /1.0/isola/builds": "needs an upload: tests of builds name the caller",
    "POST /1.0/isola/builds/replies/{token}": "needs a program that waits: tests of agents reply",
    "POST /1.0/images/{fingerprint}/refresh": "needs a registry",
    "POST /1.0/images/{fingerprint}/push": "needs a registry",
}
QUIET = {"PUT /1.0", "PATCH /1.0", "DELETE /1.0/operations/{id}", "DELETE /1.0/isola/builds/cache"}
"""Routes that publish nothing, or only the end of an earlier operation."""


def changing() -> set[str]:
    """Changing routes, one of each tree; without those that are always refused."""
    routes = (route for route in all_routes() if route[0] not in ("GET", "HEAD"))
    offered = {f"{route[0]} {route[1]}" for route in routes if not route[2].__name__.startswith("refuse_")}
    return {name for name in offered if not re.search(r"/1\.0/(containers|virtual-machines)\b", name)}


def test_every_changing_route_is_covered() -> None:
    assert {route for route, _, _ in WALK} | set(ELSEWHERE) == changing()


async def test_operations_and_events_name_their_caller(stand: Stand) -> None:
    (image,) = [each.fingerprint for each in stand.services.images]
    shown = pair()
    stand.services.warnings.report(WarningType.POOL_UNAVAILABLE, Entity.of_host(Kind.STORAGE_POOL, "default"), "a test")
    await stand.services.warnings.settled()
    [warning] = stand.services.warnings
    places = {"FINGERPRINT": image, "SHOWN": parse(shown.certificate).fingerprint, "WARNING": warning.id}
    inside = {"FINGERPRINT": image, "SHOWN": der_of(shown)}
    for route, path, body in WALK:
        follower = stand.services.events.follow([EventKind.OPERATION, EventKind.LIFECYCLE])
        if route.startswith("DELETE /1.0/instances/{name}/logs"):
            await stand.write_logs("web1")
        status, answer = await ask(stand, route.split()[0], filled(path, places), filled(body, inside))
        assert status < 300, (route, answer)
        if route.endswith("/secret"):
            places["SECRET"] = str(answer["operation"]).rpartition("/")[2]
        elif status == 202 and not route.endswith(("/console", "/attach")):
            assert (await stand.get(f"{answer['operation']}/wait"))["status_code"] == 200, route
        await asyncio.sleep(0)
        follower.close()
        callers = [
            event.content.caller async for event in follower if isinstance(event.content, Lifecycle | OperationView)
        ]
        assert callers or route in QUIET, f"{route} publishes nothing"
        assert {caller.credential for caller in callers} <= {Credential.UNIX}, route


def filled(given: Any, names: dict[str, str]) -> Any:
    """The path and body with values that are known at run time."""
    if isinstance(given, dict):
        return {key: filled(value, names) for key, value in given.items()}
    for name, text in names.items() if isinstance(given, str) else ():
        given = given.replace(name, text)
    return given


async def ask(stand: Stand, method: str, path: str, body: Any) -> tuple[int, Any]:
    if isinstance(body, bytes):
        return await stand.ask(method, path, data=body, headers={"X-LXD-type": "file"})
    return await stand.ask(method, path, body)
