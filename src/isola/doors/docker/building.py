"""The query of ``POST /build``, and the stream of messages that the classic builder answers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence

import orjson

from isola.builds.dockerfile.expansion import MAX_VALUE
from isola.doors.docker.architectures import require_platform_name
from isola.doors.docker.networks.lookup import find_network
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields, parse_object
from isola.errors import InvalidInput, Unsupported
from isola.images.registry.credentials import Credentials, credentials_of
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest
from isola.model.build_cache import CacheExport, CacheImport, CacheType
from isola.model.image_reference import DOCKER_HUB, HUB_INDEX, parse

MOST_NAMES = 100
WAY_OUT = "the builder of old docker commands is asked with DOCKER_BUILDKIT=0, BuildKit's by docker buildx"
NETWORKS = {"": "default", "default": "default", "bridge": "default", "none": "none", "host": "host"}


def request_of(request: Request) -> BuildRequest:
    """Raises InvalidInput, Unsupported with Docker's texts."""
    query = request.query
    if query.get("version", "1") not in ("", "1"):
        raise Unsupported(WAY_OUT, field="version")
    for name, what in (("squash", "--squash"), ("outputs", "--output"), ("cgroupparent", "--cgroup-parent")):
        if query.get(name, "") not in ("", "0", "false", "[]"):
            raise Unsupported(f"{what} is not supported", field=name)
    names = tuple(dict.fromkeys(parse(name).tagged().full for name in request.values("t") if name))
    if len(names) > MOST_NAMES:
        raise InvalidInput(f"more than {MOST_NAMES} tags", field="t")
    _refuse(query)
    sources = _cache_from(query)
    return BuildRequest(
        names=names,
        dockerfile=query.get("dockerfile") or "Dockerfile",
        target=query.get("target", ""),
        platform=require_platform_name(query.get("platform", "")),
        arguments={name: value for name, value in _object(query, "buildargs").items() if value is not None},
        labels={name: value or "" for name, value in _object(query, "labels").items()},
        no_cache=request.flag("nocache"),
        pull=request.flag("pull"),
        network=_network(request),
        cache_from=sources,
        imports=tuple(CacheImport(CacheType.IMAGE, name) for name in sources or ()),
        exports=(CacheExport(CacheType.INLINE),),
        config=_config(request),
        remote=query.get("remote", ""),
        project=request.project,
    )


def _refuse(query: Mapping[str, str]) -> None:
    if query.get("isolation", "") not in ("", "default"):
        raise InvalidInput(f'unsupported isolation: "{query["isolation"][:40]}"', field="isolation")
    if query.get("securityopt", "") not in ("", "null", "[]"):
        raise InvalidInput("security options are not supported on linux", field="securityopt")


def _network(request: Request) -> str:
    """By the name or id that clients know it by. Raises NotFound."""
    mode = request.query.get("networkmode", "")
    if mode in NETWORKS:
        return NETWORKS[mode]
    if mode.startswith("container:"):
        raise Unsupported("The network of a container is not offered to builds", field="networkmode")
    found = find_network(request, mode)
    return found.network.name if found.network is not None else found.name


def _cache_from(query: Mapping[str, str]) -> tuple[str, ...] | None:
    if query.get("cachefrom", "") in ("", "null", "[]"):
        return None
    try:
        found = orjson.loads(query["cachefrom"])
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found) or len(found) > MOST_NAMES:
        raise InvalidInput("cachefrom is not a JSON list of images", field="cachefrom")
    return tuple(found)


def credentials_in(header: str) -> Mapping[str, Credentials]:
    """``X-Registry-Config``: by domain; Go clients without credentials send ``null``. Raises InvalidInput."""
    if not header:
        return {}
    try:
        found = orjson.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, binascii.Error):
        raise InvalidInput("X-Registry-Config is malformed", field="X-Registry-Config") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise InvalidInput("X-Registry-Config is malformed", field="X-Registry-Config")
    return {_domain(name): credentials_of(fields) for name, fields in found.items()}


def _domain(address: str) -> str:
    domain = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if domain == HUB_INDEX else domain


def _object(query: Mapping[str, str], name: str) -> Mapping[str, str | None]:
    """A JSON object of texts. Raises InvalidInput."""
    if not (text := query.get(name, "")):
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    fits = isinstance(found, dict) and all(value is None or isinstance(value, str) for value in found.values())
    if not fits or any(len(value or "") > MAX_VALUE for value in found.values()):
        raise InvalidInput(f"{name} is not a JSON object of strings", field=name)
    return dict(found)


def _config(request: Request) -> Mapping[str, str]:
    """Limits of the containers in which programs run."""
    found: dict[str, str] = {}
    if memory := request.whole("memory"):
        found["limits.memory"] = str(memory)
    if cpus := request.query.get("cpusetcpus"):
        found["limits.cpu"] = cpus if not cpus.isdigit() else f"{cpus}-{cpus}"
    quota, period = request.whole("cpuquota"), request.whole("cpuperiod") or 100_000
    if quota and quota > 0:
        found["limits.cpu.allowance"] = f"{max(quota // 1000, 1)}ms/{max(period // 1000, 1)}ms"
    if size := request.whole("shmsize"):
        found["isola.shm.size"] = str(size)
    for limit in _ulimits(request.query):
        soft, hard = (limit.whole(name, 0, minimum=-1, maximum=2**63 - 1) for name in ("Soft", "Hard"))
        found[f"limits.kernel.{limit.text('Name')}"] = f"{_limit(soft)}:{_limit(hard)}"
    if hosts := [each for text in request.values("extrahosts") for each in text.split(",") if each]:
        found["isola.hosts"] = ",".join("=".join(each.split(":", 1)) for each in hosts)
    return found


def _ulimits(query: Mapping[str, str]) -> Sequence[Fields]:
    if query.get("ulimits", "") in ("", "null"):
        return ()
    try:
        return parse_object(b'{"ulimits":' + query["ulimits"].encode() + b"}").objects("ulimits")
    except InvalidInput:
        raise InvalidInput("error reading ulimit settings: a JSON list is expected", field="ulimits") from None


def _limit(number: int) -> str:
    return "unlimited" if number < 0 else str(number)


def messages(event: BuildEvent) -> Iterator[Mapping[str, object]]:
    """What the client prints."""
    if event.kind is BuildEventKind.STEP and event.number:
        yield {"stream": f"Step {event.number}/{event.total} : {event.text}"}
        yield {"stream": "\n"}
    elif event.kind is BuildEventKind.STEP:
        yield {"stream": f"# Executing build trigger : {event.text}\n"}
    elif event.kind is BuildEventKind.OUTPUT:
        text = event.data.decode("utf-8", "replace")
        yield {"stream": f"\x1b[91m{text}\x1b[0m" if event.stderr else text}
    elif event.kind is BuildEventKind.CACHED:
        yield {"stream": " ---> Using cache\n"}
    elif event.kind is BuildEventKind.RESULT:
        yield {"stream": f" ---> {event.text}\n"}
    elif event.kind is BuildEventKind.RUNNING:
        yield {"stream": f" ---> Running in {event.text}\n"}
    elif event.kind is BuildEventKind.REMOVED:
        yield {"stream": f" ---> Removed intermediate container {event.text}\n"}
    else:
        yield {"stream": f"{event.text}\n"}
