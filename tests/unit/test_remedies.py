"""Remedies of errors apply to all clients: they name settings and states, not commands of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import isola
from isola.cli.index import names
from isola.errors import InUse
from isola.model.instance import InstanceRequest
from isola.model.profile import Profile
from isola.model.reference import Entity, Kind, Ref
from isola.model.references import users_text
from isola.testing.parts import World

ROOT = Path(isola.__file__).parent
OURS = ("cli/", "client/", "daemon/main.py", "daemon/remedies.py", "testing/")
"""Modules that address users of the command line, or imitate foreign programs."""
PAGES = ("compose/reference.py", "daemon/reference.py", "doors/rest/reference.py", "doors/docker/reference.py")
"""Modules whose texts are documentation."""
COMMAND = re.compile(r"\bisola [a-z]+\b|(?<![\w-])--[a-z]+|/1\.0/")


Texts = list[tuple[str, str]]
"""With their places."""


@cache
def written() -> tuple[Texts, Texts]:
    """Remedies with evidence; and, but in pages, all string constants that are no docstrings."""
    remedies, texts = Texts(), Texts()
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(OURS):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        told = [node for node in nodes if isinstance(node, ast.keyword) and node.arg in ("remedy", "evidence")]
        remedies += [text for node in told for text in constants(place, ast.walk(node.value))]
        if not place.startswith(PAGES):
            silent = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            texts += constants(place, (node for node in nodes if id(node) not in silent))
    return remedies, texts


def constants(place: str, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"{place}:{node.lineno}", node.value


def test_no_text_below_the_command_line_names_its_commands() -> None:
    verbs = "|".join(names())
    command = re.compile(rf"\bisola ({verbs})\b")
    assert not [(where, text) for where, text in written()[1] if command.search(text)]


def test_no_remedy_names_a_command_of_ours() -> None:
    found = written()[0]
    assert len(found) > 50
    assert not [(where, text) for where, text in found if COMMAND.search(text) and not text.startswith("apt-get")]


def _instance(name: str) -> Entity:
    return Entity.of(Kind.INSTANCE, Ref.default(name))


def test_users_are_listed_by_kind_and_name() -> None:
    assert (
        users_text([_instance("web1"), Entity.of(Kind.PROFILE, Ref("blue", "small"))])
        == "instance web1, profile small (project blue)"
    )
    assert users_text([_instance(f"i{number}") for number in range(7)]).endswith("instance i4 and 2 more")


async def test_errors_name_the_users_of_a_profile_or_address(world: World) -> None:
    services = world.parts.services
    await services.profiles.create(Profile("extra"))
    nic = {"type": "nic", "network": "isolabr0", "name": "eth0"}
    made = await world.create("web1", start=True, profiles=("default", "extra"))
    with pytest.raises(InUse, match="by instance web1"):
        await services.profiles.delete(Ref.default("extra"))
    taken = nic | {"ipv4.address": made.plugged["eth0"].facts["ipv4"]}
    operation = services.instances.create(_request("web2", {"eth0": taken}))
    await operation.wait()
    assert "by instance web1" in str(operation.error), operation.error


def _request(name: str, devices: dict[str, dict[str, str]]) -> InstanceRequest:
    return InstanceRequest(name=name, image="tiny", devices=devices)
