"""Questions of a client of BuildKit about a Dockerfile (``docker build --call``); it shows the answers itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping

import orjson

from isola.builds.arguments import CHECKS
from isola.builds.dockerfile.checks import Finding, check
from isola.builds.dockerfile.outline import Item, outline, targets
from isola.builds.dockerfile.parsing import parse
from isola.builds.named_contexts import named_contexts
from isola.builds.platforms import Platform
from isola.builds.stages import plan
from isola.doors.docker.buildkit.attributes import request_of
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.solving import definition
from isola.errors import Unsupported
from isola.model.build import BuildRequest

_VERSION = b"1.0.0"
_CHECK = "frontend.lint"
_Json = Mapping[str, object]


async def answered(client: Client, session: Session, attributes: Mapping[str, str]) -> Mapping[str, bytes]:
    """The result's metadata. Raises InvalidInput, NotFound, Unsupported, Failure, Broken."""
    asked = attributes.get("requestid", "")
    if asked not in _ANSWERS:
        raise Unsupported(
            f"This daemon's builder does not know the question {asked[:80]!r}", field="requestid",
            remedy="ask for check, outline or targets",
        )  # fmt: skip
    request = request_of({**attributes, "requestid": ""}, client.project)
    name = attributes.get("filename") or "Dockerfile"
    data, _ = await definition(session, name)
    host = Platform.of_kernel(client.services.host.system.kernel().architecture)
    document, text = await asyncio.to_thread(_ANSWERS[asked], data, request, host)
    source = {"filename": name, "language": "Dockerfile", "data": base64.b64encode(data).decode()}
    found = {"result.txt": text.encode(), "version": _VERSION}
    if asked == _CHECK:
        found["result.statuscode"] = b"1" if document["warnings"] else b"0"
        return {**found, "result.json": orjson.dumps({**document, "sources": [source]})}
    return {**found, "result.json": orjson.dumps({**document, "sources": [source["data"]]})}


def _lint(data: bytes, request: BuildRequest, host: Platform) -> tuple[_Json, str]:
    report = check(data, instead=request.arguments.get(CHECKS))
    text = "".join(f"\nWARNING: {each.rule}\n{each.text}\nline {each.line}\n" for each in report.findings)
    return {"warnings": [_warning(each) for each in report.findings]}, text or "Check complete, no warnings found.\n"


def _warning(found: Finding) -> _Json:
    return {
        "ruleName": found.rule,
        "description": found.text,
        "detail": found.text,
        "location": {"sourceIndex": 0, **_place(found.line)},
    }


def _targets(data: bytes, request: BuildRequest, host: Platform) -> tuple[_Json, str]:
    found = targets(data, parse(data))
    shown = [
        {**_item(each), "base": each.value, "platform": each.platform, "default": each.is_default} for each in found
    ]
    return {"targets": shown}, "".join(f"{each.name or '(unnamed)'}\n" for each in found)


def _outline(data: bytes, request: BuildRequest, host: Platform) -> tuple[_Json, str]:
    dockerfile = parse(data)
    wanted = Platform.parse(request.platform) if request.platform else host
    contexts = named_contexts(request.contexts)
    made = plan(
        dockerfile, given=request.arguments, target=request.target, host=host, platform=wanted, contexts=contexts
    )
    values = {**made.arguments, **request.arguments}
    found = outline(data, dockerfile, made.target, made.reachable(), values)
    document = {
        "name": found.stage.name,
        "description": found.stage.description,
        "args": [{**_item(each), "value": each.value} for each in found.arguments.values()],
        "secrets": [{**_item(each), "required": each.required} for each in found.secrets.values()],
        "ssh": [{**_item(each), "required": each.required} for each in found.agents.values()],
        "cache": [{**_item(each), "ID": each.name} for each in found.caches.values()],
    }
    return document, "".join(f"{each.name}={each.value}\n" for each in found.arguments.values())


def _item(found: Item) -> dict[str, object]:
    return {"name": found.name, "description": found.description, "location": _place(found.line)}


def _place(line: int) -> dict[str, object]:
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}}]}


_ANSWERS: Mapping[str, Callable[[bytes, BuildRequest, Platform], tuple[_Json, str]]] = {
    _CHECK: _lint,
    "frontend.outline": _outline,
    "frontend.targets": _targets,
}
