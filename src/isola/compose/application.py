"""A whole application: services, and the networks, volumes, configs and secrets that they use."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isola.compose.consistency import require_consistent
from isola.compose.env_files import parse_env
from isola.compose.loading import Loader, Source
from isola.compose.specification import check
from isola.errors import InvalidInput

Tree = dict[str, Any]
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = ("compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml",
             "docker-compose.override.yml")  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_KINDS = ("services", "networks", "volumes", "configs", "secrets")
_SHARING = ("network_mode", "ipc", "pid")
"""Keys that may say ``service:NAME``."""


@dataclass(frozen=True, slots=True)
class Application:
    """A checked application. Services and resources are mappings in the long forms of ``specification``."""

    name: str
    directory: Path
    services: Mapping[str, Tree]
    networks: Mapping[str, Tree]
    volumes: Mapping[str, Tree]
    configs: Mapping[str, Tree]
    secrets: Mapping[str, Tree]
    inactive: frozenset[str] = frozenset()
    """Services of the file whose profiles are not active."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Values of those that configs and secrets name, where they are set."""

    def needs(self, service: str) -> Mapping[str, Tree]:
        """Services that have to be started before it -> condition, ``restart`` and ``required``."""
        return _needs(self.services[service])

    def shares_with(self, service: str) -> frozenset[str]:
        """Services in whose namespaces it runs, so that it ends with them."""
        modes = (str(self.services[service].get(key, "")).partition(":") for key in _SHARING)
        return frozenset(name for kind, _, name in modes if kind == "service" and name)

    def document(self) -> Tree:
        """The merged compose file."""
        return {"name": self.name} | {kind: dict(found) for kind in _KINDS if (found := getattr(self, kind))}

    def part(self, services: Collection[str]) -> Tree:
        """The same with these services, and what they use, alone."""
        used: Tree = {kind: {} for kind in _KINDS}
        for name in services:
            used["services"][name] = self.services[name]
            for _, kind, other in _mentions(self.services[name]):
                used[kind][other] = getattr(self, kind)[other]
        return used


def load(
    files: Sequence[Path],
    directory: Path,
    environment: Mapping[str, str],
    source: Source,
    *,
    name: str = "",
    profiles: Collection[str] = (),
    services: Collection[str] = (),
) -> Application:
    """The application of these files.

    Services of other profiles are left out, unless they are among ``services``. Raises InvalidInput.
    """
    loader = Loader(source, directory, environment)
    name = name or environment.get("COMPOSE_PROJECT_NAME") or loader.name(files)
    name = _name(name, directory)
    loader.environment = {**environment, "COMPOSE_PROJECT_NAME": name}
    document = check(loader.load(files))
    chosen = _chosen(document.get("services") or {}, profiles, services)
    for key, service in chosen.items():
        _complete(key, service, environment, source)
    found = Application(
        name=name,
        directory=directory,
        services=chosen,
        networks=_resources(document, "networks") | _default_network(chosen, document),
        volumes=_resources(document, "volumes"),
        configs=_resources(document, "configs"),
        secrets=_resources(document, "secrets"),
        inactive=frozenset(document.get("services") or ()) - chosen.keys(),
        variables=_stored(document, environment),
    )
    _require_known(found)
    order(found)
    return _named(found)


def order(application: Application, wanted: Collection[str] = ()) -> list[str]:
    """Services with those they need before them; all, or the ``wanted`` ones. Raises InvalidInput for a cycle."""
    found: list[str] = []

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in chain:
            cycle = " -> ".join((*chain[chain.index(name) :], name))
            raise InvalidInput("Services depend on each other", evidence=cycle, field=f"services.{name}.depends_on")
        if name in found:
            return
        for needed in application.needs(name):
            if needed in application.services:
                visit(needed, (*chain, name))
        found.append(name)

    for name in wanted or application.services:
        if name not in application.services:
            raise InvalidInput(f"There is no service {name[:80]!r}", remedy=", ".join(application.services))
        visit(name, ())
    return found


def _stored(document: Tree, environment: Mapping[str, str]) -> dict[str, str]:
    stored = [each for kind in ("configs", "secrets") for each in _resources(document, kind).values()]
    names = {str(each["environment"]) for each in stored if each.get("environment")}
    return {name: environment[name] for name in names if name in environment}


def _chosen(services: Mapping[str, Tree], profiles: Collection[str], named: Collection[str]) -> dict[str, Tree]:
    """Services without profiles, of active ones, and those that are named; with ``*`` all."""
    active = {*profiles, *(each for name in named if name in services for each in services[name].get("profiles", ()))}
    return {
        name: service
        for name, service in services.items()
        if "*" in active or not service.get("profiles") or active & {*service["profiles"]}
    }


def _complete(name: str, service: Tree, environment: Mapping[str, str], source: Source) -> None:
    """Read its environment files, and use the caller's value of variables without one."""
    if not {"image", "build", "provider"} & {*service}:
        raise InvalidInput(f"Service {name} has neither an image nor a build", field=f"services.{name}")
    own, values = service.get("environment", {}), dict[str, str | None]()
    for file in service.pop("env_file", ()):
        if (text := _text(file, source)) is not None:
            known = {key: value for key, value in values.items() if value is not None}
            given = {key: value for key, value in own.items() if value is not None}
            values |= parse_env(text, {**known, **environment, **given}, file["path"], raw=file.get("format") == "raw")
    for key, value in own.items():
        values[key] = environment.get(key) if value is None else value
    if values:
        service["environment"] = {key: value for key, value in values.items() if value is not None}
    for file in service.pop("label_file", ()):
        labels = parse_env(_text({"path": file}, source) or "", {}, file)
        service["labels"] = {key: value or "" for key, value in labels.items()} | service.get("labels", {})
    if "labels" in service:
        service["labels"] = {key: value or "" for key, value in service["labels"].items()}
    if "network_mode" not in service and not service.get("networks"):
        service["networks"] = {"default": None}
    elif service.get("network_mode") and service.get("networks"):
        raise InvalidInput(f"Service {name} has both networks and network_mode", field=f"services.{name}.network_mode")


def _text(file: Tree, source: Source) -> str | None:
    """None for a missing file that is not required."""
    try:
        return source.read(Path(file["path"]))
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and file.get("required") is False:
            return None
        raise InvalidInput(f"Cannot read {file['path']}", evidence=str(error)) from None


def _resources(document: Tree, kind: str) -> dict[str, Tree]:
    return {name: dict(found or {}) for name, found in (document.get(kind) or {}).items()}


def _default_network(services: Mapping[str, Tree], document: Tree) -> dict[str, Tree]:
    used = any("default" in (service.get("networks") or {}) for service in services.values())
    return {"default": {}} if used and "default" not in (document.get("networks") or {}) else {}


def _needs(service: Tree) -> dict[str, Tree]:
    found: dict[str, Tree] = dict(service.get("depends_on", {}))
    for link in service.get("links", ()):
        found.setdefault(link.partition(":")[0], {"condition": "service_started", "restart": True})
    for each in service.get("volumes_from", ()):
        if not each.startswith("container:"):
            found.setdefault(each.partition(":")[0], {"condition": "service_started"})
    for key in _SHARING:
        kind, _, name = service.get(key, "").partition(":")
        if kind == "service" and name:
            found.setdefault(name, {"condition": "service_started"})
    return found


def _require_known(application: Application) -> None:
    for name, service in application.services.items():
        require_consistent(name, service)
        for where, kind, other in _mentions(service):
            if other not in getattr(application, kind):
                raise InvalidInput(
                    f"Service {name} refers to {kind}.{other}, which is not defined",
                    field=f"services.{name}.{where}",
                    remedy=f"define it under {kind}",
                )
        for other, how in _needs(service).items():
            if other not in application.services and how.get("required") is not False:
                raise InvalidInput(
                    f"Service {name} depends on {other!r}, which is not defined or whose profile is not active",
                    field=f"services.{name}.depends_on",
                )
    for kind in ("configs", "secrets"):
        for name, found in getattr(application, kind).items():
            given = [key for key in ("file", "environment", "content", "external") if found.get(key)]
            if len(given) != 1:
                raise InvalidInput(
                    f"{kind}.{name} needs one of file, environment, content or external", field=f"{kind}.{name}"
                )


def _mentions(service: Tree) -> Iterator[tuple[str, str, str]]:
    """Key, kind and name of what a service uses."""
    for name in service.get("networks") or ():
        yield "networks", "networks", name
    for mount in service.get("volumes", ()):
        if mount["type"] == "volume" and mount.get("source"):
            yield "volumes", "volumes", mount["source"]
    for kind in ("configs", "secrets"):
        for grant in (*service.get(kind, ()), *(service.get("build", {}).get(kind, ()))):
            yield kind, kind, grant["source"]


def _named(application: Application) -> Application:
    """Networks and volumes with their names on the server."""
    for found in (application.networks, application.volumes, application.configs, application.secrets):
        for key, resource in found.items():
            if not resource.get("name"):
                resource["name"] = key if resource.get("external") else f"{application.name}_{key}"
    return application


def _name(given: str, directory: Path) -> str:
    if given:
        if not _NAME.fullmatch(given):
            raise InvalidInput(
                f"Invalid name of an application {given[:80]!r}",
                field="name",
                remedy="use lower-case letters, digits, hyphens and underscores, a letter or digit first",
            )
        return given
    name = re.sub(r"[^a-z0-9_-]", "", directory.name.lower()).lstrip("_-")
    if not name:
        raise InvalidInput(
            "The directory's name cannot be the name of the application", remedy="set name in the compose file"
        )
    return name
