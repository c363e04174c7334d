"""Images that services build from Dockerfiles."""

from __future__ import annotations

import base64
import tempfile
from contextlib import contextmanager

from isola.cli.compose.stored import content
from isola.compose.attributes import refuse
from isola.compose.limits import ulimits
from isola.errors import HostFailure, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.compose.application import Application

_REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "docker-image://", "service:")


def image_name(application: Application, service: str) -> str:
    """The name that a service's image is known by: the file's, or one made of application and service."""
    return str(application.services[service].get("image") or f"{application.name}-{service}")


def build(
    context: Context,
    application: Application,
    service: str,
    *,
    pull: bool = False,
    fresh: bool = False,
    arguments: Mapping[str, str] | None = None,
) -> None:
    """Build the image of a service under its names; ``fresh``: without the cache. Raises InvalidInput, HostFailure.

    ``arguments``: in place of those of the file.
    """
    from isola.cli.build_caches import BuildCaches
    from isola.cli.build_context import BuildContext
    from isola.cli.commands.build import Shown, agent, logins
    from isola.cli.named_contexts import NamedContexts

    spec: dict[str, Any] = application.services[service]["build"]
    where = f"services.{service}.build"
    refuse({"services": {service: {"build": spec}}})
    directory = spec.get("context") or str(application.directory)
    if directory.startswith(_REMOTE):
        raise InvalidInput(f"{where}.context is not a directory", evidence=directory[:80], field=f"{where}.context")
    context.say(f"Building {service}")
    with _dockerfile(spec, directory) as dockerfile:
        try:
            found = BuildContext(directory, dockerfile)
            further = NamedContexts(spec.get("additional_contexts") or {})
            caches = BuildCaches(spec.get("cache_from") or (), spec.get("cache_to") or ())
        except OSError as error:
            raise InvalidInput(f"Cannot read the contexts of {where}", evidence=str(error), field=where) from None
        spec = {**spec, "args": {**spec.get("args", {}), **(arguments or {})}}
        options = _options(application, service, spec) | {"dockerfile": found.dockerfile, "contexts": further.options}
        options |= {"cache_from": caches.imports, "cache_to": caches.exports}
        options["credentials"] = logins(context, caches.registries())
        options |= {"pull": pull or bool(spec.get("pull")), "no_cache": fresh or bool(spec.get("no_cache"))}
        sockets = dict(map(agent, agents_of(spec)))
        options["agents"] = list(sockets)
        show = Shown(context, quiet=context.quiet, plain=False, names=(), agents=sockets)
        stream = further.stream(found, caches.directories)
        if show.run(context.client.builds.run(options, stream, take_cache=caches.take)) != 0:
            raise HostFailure(f"The image of service {service} could not be built", evidence="see above")
        caches.finish()


def agents_of(spec: Mapping[str, Any]) -> list[str]:
    """``default`` or ``ID=SOCKET`` for each agent of ``ssh``. Raises InvalidInput."""
    given = spec.get("ssh") or []
    if isinstance(given, dict):
        return [f"{name}={path}" if path else str(name) for name, path in given.items()]
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise InvalidInput("build.ssh is invalid", evidence="default or ID=SOCKET is expected", field="build.ssh")
    return given


def build_config(spec: Mapping[str, Any]) -> dict[str, str]:
    """What the programs of the build have, as keys of instances."""
    found = {"isola.shm.size": str(spec["shm_size"])} if spec.get("shm_size") else {}
    if hosts := spec.get("extra_hosts"):
        found["isola.hosts"] = ",".join(f"{host}={each}" for host in hosts for each in hosts[host])
    return found | ulimits(spec)


def _options(application: Application, service: str, spec: Mapping[str, Any]) -> dict[str, object]:
    from isola.environment import variable

    arguments = {name: variable(name) if value is None else value for name, value in spec.get("args", {}).items()}
    return {
        "names": [image_name(application, service), *spec.get("tags", ())],
        "target": spec.get("target", ""),
        "platform": (spec.get("platforms") or [application.services[service].get("platform", "")])[0],
        "arguments": {name: value for name, value in arguments.items() if value is not None},
        "labels": {name: value or "" for name, value in spec.get("labels", {}).items()},
        "secrets": {
            grant.get("target") or grant["source"]: base64.b64encode(
                content(application, "secrets", grant["source"])
            ).decode()
            for grant in spec.get("secrets", ())
        },
        "network": spec.get("network", ""),
        "config": build_config(spec),
    }


@contextmanager
def _dockerfile(spec: Mapping[str, Any], directory: str) -> Iterator[str]:
    """Path of the Dockerfile; one that stands in the compose file is written to a temporary file."""
    if inline := spec.get("dockerfile_inline"):
        if spec.get("dockerfile"):
            raise InvalidInput("A build has either dockerfile or dockerfile_inline", field="dockerfile_inline")
        with tempfile.NamedTemporaryFile("w", prefix="isola-dockerfile-") as file:
            file.write(inline)
            file.flush()
            yield file.name
    else:
        name = spec.get("dockerfile") or "Dockerfile"
        yield name if name.startswith("/") else f"{directory}/{name}"
