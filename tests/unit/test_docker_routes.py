"""All routes of the Docker Engine API called by untrusted, restricted and unrestricted callers.

The responses are compared with the permissions in the route table.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from docker_door import docker_standing

from isola.access import Permission
from isola.doors.docker.dispatch import Dispatcher
from isola.doors.docker.routing import Route, Router, all_routes
from isola.doors.docker.versions import NOUNS
from isola.errors import NotFound
from isola.model.caller import UNTRUSTED, Caller, Credential
from isola.model.project import FEATURES, Project
from isola.testing.parts import World

DEFAULT = Caller(Credential.CERTIFICATE, "cd34", "192.0.2.2:4000", projects=frozenset({"default"}))
BLUE = Caller(Credential.CERTIFICATE, "cd35", "192.0.2.2:4000", projects=frozenset({"blue"}))
ADMIN = Caller(Credential.CERTIFICATE, "ab12", "192.0.2.1:4000")


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    world = World()
    parts = await world.start()
    yield Dispatcher(parts.services)
    await parts.close()
    world.forget()


def _id(route: Route) -> str:
    return f"{route[0]} {route[1]}"


def _streams(route: Route) -> bool:
    """With a mocked request, whose client is gone at once, streams cannot be answered."""
    return route[1] in ("/events", "/build")


async def ask(dispatcher: Dispatcher, route: Route, caller: Caller) -> int:
    """The status of the response with every parameter filled in; the body is empty."""
    path = re.sub(r"\{[^}]*\}", "nothing", route[1])
    found: web.StreamResponse = await dispatcher.answer(make_mocked_request(route[0], f"/v1.50{path}"), caller)
    return found.status


async def test_untrusted_callers_get_nothing(dispatcher: Dispatcher) -> None:
    answers = {_id(route): await ask(dispatcher, route, UNTRUSTED) for route in all_routes()}
    assert answers == dict.fromkeys(answers, 403)


@pytest.mark.parametrize("caller", [DEFAULT, BLUE, ADMIN], ids=lambda caller: caller.name)
async def test_certificates_have_the_permissions_of_the_route_table(dispatcher: Dispatcher, caller: Caller) -> None:
    routes = [route for route in all_routes() if not _streams(route)]
    answers = {_id(route): await ask(dispatcher, route, caller) for route in routes}
    refused = {name for name, status in answers.items() if status == 403}
    assert refused == {_id(route) for route in routes if not allowed(caller, route)}


def allowed(caller: Caller, route: Route) -> bool:
    """The permissions of the table, computed a second time."""
    permission = route[3]
    if caller is ADMIN or permission is Permission.TRUSTED:
        return True
    return caller is DEFAULT and permission is not Permission.ADMIN


async def test_the_project_of_the_door_is_a_setting(dispatcher: Dispatcher) -> None:
    services = dispatcher.services
    await services.projects._records.add("blue", Project("blue"))
    probe: Route = ("GET", "/any", _handler, Permission.VIEW)
    dispatcher.__dict__["_router"] = Router([probe])
    assert await ask(dispatcher, probe, BLUE) == 403
    await services.server.update(lambda config: {"docker.project": "blue"})
    assert await ask(dispatcher, probe, BLUE) != 403 == await ask(dispatcher, probe, DEFAULT)
    await services.server.update(lambda config: {"docker.project": "gone"})
    assert await ask(dispatcher, probe, ADMIN) == 404


async def test_a_project_without_its_own_resources_cannot_change_shared_ones(dispatcher: Dispatcher) -> None:
    services = dispatcher.services
    await services.projects._records.add("blue", Project("blue", config=dict.fromkeys(FEATURES, "false")))
    await services.server.update(lambda config: {"docker.project": "blue"})
    nouns = ("images", "build", "networks", "volumes")
    routes = [route for route in all_routes() if route[1].split("/")[1] in nouns and route[3].changes]
    answers = {_id(route): await ask(dispatcher, route, BLUE) for route in routes}
    assert answers == dict.fromkeys(answers, 403)


async def test_a_shared_network_shows_containers_of_the_callers_projects_alone() -> None:
    async with docker_standing() as docker:
        services = docker.services
        await services.projects._records.add("blue", Project("blue", config={"features.images": "false"}))
        await docker.rest.create("theirs", start=True)
        await services.server.update(lambda config: {"docker.project": "blue"})
        request = make_mocked_request("GET", "/v1.50/networks/bridge")
        shown = {}
        for caller in (BLUE, ADMIN):
            found: Any = await Dispatcher(services).answer(request, caller)
            shown[caller] = [each["Name"] for each in orjson.loads(found.body)["Containers"].values()]
        assert shown == {BLUE: [], ADMIN: ["theirs"]}


def test_every_noun_is_known_to_the_shared_listener() -> None:
    assert {route[1].split("/")[1] for route in all_routes()} <= NOUNS


async def _handler(request: object) -> web.StreamResponse:
    return web.Response()


def test_names_with_slashes_are_followed_by_verbs() -> None:
    router = Router(
        [
            ("GET", "/images/json", _handler, Permission.VIEW),
            ("GET", "/images/{name...}/json", _handler, Permission.VIEW),
            ("DELETE", "/images/{name...}", _handler, Permission.EDIT),
        ]
    )
    assert router.find("GET", "/images/json")[2] == {}
    assert router.find("GET", "/images/a/b/c:1/json")[1:] == (Permission.VIEW, {"name": "a/b/c:1"})
    assert router.find("GET", "/images/json/json")[2] == {"name": "json"}
    assert router.find("DELETE", "/images/json")[1:] == (Permission.EDIT, {"name": "json"})
    assert router.find("DELETE", "/images/a/b")[2] == {"name": "a/b"}
    for method, path in (("PUT", "/images/json"), ("GET", "/images/a/b"), ("GET", "/")):
        with pytest.raises(NotFound, match="page not found"):
            router.find(method, path)
