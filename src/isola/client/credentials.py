"""Credentials for registries, as ``docker login`` and ``podman login`` store them for a user."""

from __future__ import annotations

import json
import subprocess

from isola.environment import variable
from isola.errors import InvalidInput
from isola.model.image_reference import DOCKER_HUB, HUB_ADDRESS, HUB_INDEX, ImageReference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECONDS = 30
_TOKEN = "<token>"
"""User name with which a credential helper marks an identity token."""


def credentials_for(reference: ImageReference) -> dict[str, str]:
    """``username`` and ``password``, or ``identitytoken``; empty if there are none.

    Raises InvalidInput for a file that cannot be read, and for a credential helper that fails.
    """
    for path in _files():
        fields = _read(path)
        if fields is not None and (found := _in_file(fields, reference)):
            return found
    return {}


def _files() -> Iterator[str]:
    home = variable("HOME") or "/root"
    yield f"{variable('DOCKER_CONFIG') or f'{home}/.docker'}/config.json"
    if named := variable("REGISTRY_AUTH_FILE"):
        yield named
    if runtime := variable("XDG_RUNTIME_DIR"):
        yield f"{runtime}/containers/auth.json"
    yield f"{variable('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json"


def _read(path: str) -> Mapping[str, object] | None:
    try:
        with open(path, "rb") as file:
            fields = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"Cannot read {path}", evidence=str(error)) from error
    return fields if isinstance(fields, dict) else None


def _in_file(fields: Mapping[str, object], reference: ImageReference) -> dict[str, str]:
    helpers, keys = _mapping(fields, "credHelpers"), _keys(reference)
    for key in keys:
        if key in helpers:
            return _ask(str(helpers[key]), key)
    stored = {_server(key): value for key, value in _mapping(fields, "auths").items()}
    store = fields.get("credsStore")
    if isinstance(store, str) and store:
        known = {_server(key): key for key in _mapping(fields, "auths")}
        for key in keys:
            if found := _ask(store, known.get(key) or (HUB_ADDRESS if key == HUB_INDEX else key)):
                return found
    for key in keys:
        entry = stored.get(key)
        if isinstance(entry, dict) and (found := _texts(entry)):
            return found
    return {}


def _keys(reference: ImageReference) -> list[str]:
    """From the most specific: podman stores credentials for repositories too."""
    parts = reference.path.split("/")
    paths = [f"{reference.domain}/{'/'.join(parts[:number])}" for number in range(len(parts), 0, -1)]
    return [*paths, reference.domain, *([HUB_INDEX] if reference.domain == DOCKER_HUB else [])]


def _server(key: str) -> str:
    """``registry.example`` of an address as older versions of docker stored it."""
    if "://" not in key:
        return key
    return key.partition("://")[2].partition("/")[0]


def _texts(entry: Mapping[str, object]) -> dict[str, str]:
    names = ("auth", "username", "password", "identitytoken", "registrytoken")
    return {name: text for name in names if isinstance(text := entry.get(name), str) and text}


def _mapping(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = fields.get(name)
    return found if isinstance(found, dict) else {}


def _ask(helper: str, server: str) -> dict[str, str]:
    """Run ``docker-credential-HELPER get``; it fails if it knows nothing about the server."""
    if "/" in helper:
        raise InvalidInput(f"Invalid credential helper {helper!r}")
    argv = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(argv, input=server.encode(), capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidInput(f"The credential helper {helper} cannot be used", evidence=str(error)) from error
    if done.returncode:
        return {}
    try:
        found = json.loads(done.stdout)
        username, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"The credential helper {helper} gave no credentials", evidence=str(error)) from error
    return {"identitytoken": secret} if username == _TOKEN else {"username": username, "password": secret}
