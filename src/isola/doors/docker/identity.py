"""Names and ids of containers: each is an instance, under an id as long as clients of Docker expect it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from isola.doors.docker.request import Request
from isola.errors import InvalidInput, NotFound
from isola.model.instance import Instance
from isola.model.reference import Ref

_OWN = 16
"""Digits of an instance's id, with which that of its container begins."""
_WHOLE = 64
_DIGITS = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


def container_id(id: str) -> str:
    """Of the container that is the instance with this id."""
    return long_id(id)


def long_id(id: str) -> str:
    """64 hexadecimal digits: a shorter id and the beginning of its hash."""
    return id + hashlib.sha256(id.encode()).hexdigest()[: _WHOLE - len(id)]


def containers_of(request: Request) -> Iterator[Instance]:
    """The instances of the door's project."""
    return (instance for instance in request.services.instances if instance.project == request.project)


def of_id(request: Request, id: str) -> Instance | None:
    """The container that is the instance with this id."""
    found = request.services.instances.by_id(id)
    return found if found is not None and found.project == request.project else None


def find(request: Request, text: str) -> Instance:
    """The container with this id, name or unique beginning of an id. Raises NotFound, InvalidInput."""
    name = text.removeprefix("/")
    if len(name) == _WHOLE and (whole := of_id(request, name[:_OWN])) and container_id(whole.id) == name:
        return whole
    if (called := request.services.instances.find(Ref(request.project, name))) is not None:
        return called
    found = _with_prefix(request, name)
    if len(found) > 1:
        raise InvalidInput(f"Multiple IDs found with provided prefix: {name[:200]}")
    if not found:
        raise NotFound(f"No such container: {text[:200]}")
    return found[0]


def named(request: Request) -> Instance:
    """The container that the path names. Raises NotFound, InvalidInput."""
    return find(request, request.parameters["name"])


def _with_prefix(request: Request, text: str) -> list[Instance]:
    if not _DIGITS.fullmatch(text):
        return []
    return [
        instance
        for instance in containers_of(request)
        if instance.id.startswith(text[:_OWN]) and container_id(instance.id).startswith(text)
    ]
