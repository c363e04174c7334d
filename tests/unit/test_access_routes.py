"""All routes called by an untrusted client, with certificates restricted to projects, and by an admin.

The responses are compared with the permissions in the route table.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from isola.access import Permission
from isola.doors.rest.dispatch import Dispatcher
from isola.doors.rest.routing import Route, all_routes
from isola.model.caller import UNTRUSTED, Caller, Credential
from isola.model.project import FEATURES, Project
from isola.testing.parts import World

DEFAULT = Caller(Credential.CERTIFICATE, "cd34", "192.0.2.2:4000", projects=frozenset({"default"}))
BLUE = Caller(Credential.CERTIFICATE, "cd35", "192.0.2.2:4000", projects=frozenset({"blue"}))
ADMIN = Caller(Credential.CERTIFICATE, "ab12", "192.0.2.1:4000")
GUESTS = {
    "GET /": 200,
    "GET /1.0": 200,
    "GET /1.0/images": 200,
    "GET /1.0/images/aliases/{alias...}": 404,
    "GET /1.0/images/{fingerprint}": 404,
    "GET /1.0/images/{fingerprint}/export": 404,
    "POST /1.0/certificates": 400,
    "GET /1.0/operations/{id}/wait": 403,
    "GET /1.0/operations/{id}/websocket": 403,
}
"""All routes open to an untrusted client, and their status without a secret."""


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    world = World()
    parts = await world.start()
    yield Dispatcher(parts.services)
    await parts.close()
    world.forget()


def _id(route: Route) -> str:
    return f"{route[0]} {route[1]}"


async def ask(dispatcher: Dispatcher, route: Route, caller: Caller, query: str = "") -> int:
    """The HTTP status of the response."""
    status: int = (await answer(dispatcher, route, caller, query)).status
    return status


async def answer(dispatcher: Dispatcher, route: Route, caller: Caller, query: str = "") -> Any:
    """The response with every parameter filled in; the body is empty, so that permitted requests change nothing."""
    project = "nothing" if caller is ADMIN else "default"  # which cannot be deleted
    path = re.sub(r"\{project\}", project, route[1])
    path = re.sub(r"\{[^}]*\}", "nothing", path)
    return await dispatcher.answer(make_mocked_request(route[0], path + query), caller)


async def test_untrusted_clients_get_the_routes_for_guests_and_nothing_else(dispatcher: Dispatcher) -> None:
    answers = {_id(route): await ask(dispatcher, route, UNTRUSTED) for route in all_routes()}
    assert answers == {_id(route): GUESTS.get(_id(route), 403) for route in all_routes()}
    assert set(GUESTS) == {_id(route) for route in all_routes() if route[3] is Permission.GUEST}


@pytest.mark.parametrize("caller", [DEFAULT, BLUE, ADMIN], ids=lambda caller: caller.name)
async def test_certificates_have_the_permissions_of_the_route_table(dispatcher: Dispatcher, caller: Caller) -> None:
    answers = {_id(route): await ask(dispatcher, route, caller) for route in all_routes()}
    refused = {name for name, status in answers.items() if status == 403}
    assert refused == {_id(route) for route in all_routes() if not allowed(caller, route)}


def allowed(caller: Caller, route: Route) -> bool:
    """The permissions of the table, computed a second time."""
    permission = route[3]
    if caller is ADMIN or permission in (Permission.GUEST, Permission.TRUSTED):
        return True
    return caller is DEFAULT and permission is not Permission.ADMIN


async def test_all_projects_is_limited_to_the_callers_projects(dispatcher: Dispatcher) -> None:
    """Lists leave out objects of other projects; all other requests are refused."""
    routes = [route for route in all_routes() if route[3].in_project]
    answers = {_id(route): await answer(dispatcher, route, BLUE, "?all-projects=true") for route in routes}
    lists = {
        _id(route) for route in routes if route[0] == "GET" and route[3] is Permission.VIEW and "{" not in route[1]
    }
    assert {name for name, found in answers.items() if found.status != 403} == lists >= {"GET /1.0/instances"}
    for name in lists:
        assert orjson.loads(answers[name].body)["metadata"] == [], name


async def test_a_project_without_its_own_resources_cannot_change_shared_ones(dispatcher: Dispatcher) -> None:
    projects = dispatcher.services.projects
    await projects._records.add("blue", Project("blue", config=dict.fromkeys(FEATURES, "false")))
    nouns = ("images", "networks", "profiles", "storage-pools")
    routes = [route for route in all_routes() if route[1].split("/")[2:3] and route[1].split("/")[2] in nouns]
    changing = [route for route in routes if route[3] in (Permission.EDIT, Permission.OPERATE)]
    answers = {_id(route): await ask(dispatcher, route, BLUE, "?project=blue") for route in changing}
    assert len(answers) > 20 and set(answers.values()) == {403}
    seen = [route for route in routes if route[3] is Permission.VIEW]
    assert 403 not in [await ask(dispatcher, route, BLUE, "?project=blue") for route in seen]
