"""Images from containers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import orjson
from aiohttp import web

from isola.doors.docker.answers import created
from isola.doors.docker.containers.inspect import config_of
from isola.doors.docker.containers.view import view
from isola.doors.docker.identity import find
from isola.doors.docker.json_body import decoded
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.instances.commit import CommitRequest
from isola.model.image_reference import parse
from isola.model.instance import Instance

_TIMES = {
    "Interval": "interval", "Timeout": "timeout", "StartPeriod": "start-period", "StartInterval": "start-interval",
}  # fmt: skip
_SHELL, _HEALTH = ("/bin/sh", "-c"), "isola.health."
_MILLISECOND, _LONGEST = 10**6, 2**63 - 1


async def commit(request: Request) -> web.StreamResponse:
    """Make an image of a container, whose processes are paused meanwhile unless that is switched off."""
    query, body = request.query, await _body(request)
    instance = find(request, query.get("container", ""))
    changes = tuple(line for text in request.values("changes") for line in text.splitlines())
    wanted = CommitRequest(
        names=(_name(query["repo"], query.get("tag", "")),) if query.get("repo") else (),
        author=query.get("author", ""),
        message=query.get("comment", ""),
        changes=(*_changes(_given(request, instance)), *_changes(body), *changes),
        pause=request.flag("pause", True),
    )
    operation = request.services.instances.contents.commit(instance.ref, wanted, caller=request.caller)
    await request.services.operations.finish(operation)
    return created({"Id": f"sha256:{operation.metadata['fingerprint']}"})


def _given(request: Request, instance: Instance) -> Fields:
    """What the container was given beyond its image, and instances have no keys for, or keys of other forms."""
    seen = view(request, instance)
    found, names = config_of(request, seen), ["ExposedPorts", "Volumes"]
    names += ["Healthcheck"] if any(key.startswith(_HEALTH) for key in seen.config) else []
    return Fields({name: found[name] for name in names if found.get(name)})


def _name(repository: str, tag: str) -> str:
    found = parse(repository)
    if found.digest:
        raise InvalidInput("invalid reference format: a commit cannot have a digest", field="repo")
    return (found.at(tag=tag) if tag else found.tagged()).full


async def _body(request: Request) -> Fields:
    """The configuration that some clients send; the command line sends ``null``."""
    request.require_json()
    data = (await request.body()).strip()
    found = decoded(data) if data else None
    return Fields(found if isinstance(found, dict) else {})


def _changes(config: Fields) -> Iterator[str]:
    """The same as Dockerfile instructions."""
    for key, instruction in (("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD"), ("Shell", "SHELL")):
        if config.has(key):
            yield f"{instruction} {orjson.dumps(config.texts(key)).decode()}"
    for variable in config.texts("Env"):
        yield f"ENV {shlex.quote(variable)}"
    for key, value in config.mapping("Labels").items():
        yield f"LABEL {shlex.quote(f'{key}={value}')}"
    for key, instruction in (("User", "USER"), ("WorkingDir", "WORKDIR"), ("StopSignal", "STOPSIGNAL")):
        if text := config.text(key, ""):
            yield f"{instruction} {text}"
    for key, instruction in (("ExposedPorts", "EXPOSE"), ("Volumes", "VOLUME")):
        for name in config.inside(key).names():
            yield f"{instruction} {shlex.quote(name)}"
    yield from (f"ONBUILD {each}" for each in config.texts("OnBuild"))
    if config.has("Healthcheck"):
        yield from _health_check(config.inside("Healthcheck"))


def _health_check(check: Fields) -> Iterator[str]:
    kind, *argv = check.texts("Test") or ("",)
    if kind == "NONE":
        yield "HEALTHCHECK NONE"
    elif kind:
        options = [
            f"--{option}={check.whole(name, 0, maximum=_LONGEST) // _MILLISECOND}ms"
            for name, option in _TIMES.items()
            if check.whole(name, 0, maximum=_LONGEST)
        ]
        options += [f"--retries={retries}"] if (retries := check.whole("Retries", 0)) else []
        text = " ".join(argv)
        if kind == "CMD-SHELL" and ("\n" in text or text.startswith("[")):  # which instructions cannot say
            kind, argv = "CMD", [*_SHELL, text]
        command = orjson.dumps(argv).decode() if kind == "CMD" else text
        yield " ".join(["HEALTHCHECK", *options, "CMD", command])


ROUTES: tuple[Route, ...] = (("POST", "/commit", commit, Permission.EDIT),)
