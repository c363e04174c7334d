"""Checks of a Dockerfile for a client of BuildKit (``docker build --check``), which shows them itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

import orjson

from isola.builds.dockerfile.checks import Finding, check
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.solving import definition

REQUEST = "frontend.lint"


async def lint(session: Session, attributes: Mapping[str, str]) -> Mapping[str, bytes]:
    """The result's metadata. Raises InvalidInput, Failure, Broken."""
    name = attributes.get("filename") or "Dockerfile"
    data, _ = await definition(session, name)
    report = await asyncio.to_thread(check, data)
    source = {"filename": name, "language": "Dockerfile", "data": base64.b64encode(data).decode()}
    document = {"warnings": [_warning(each) for each in report.findings], "sources": [source]}
    text = "".join(f"\nWARNING: {each.rule}\n{each.text}\n{name}:{each.line}\n" for each in report.findings)
    return {
        "result.json": orjson.dumps(document),
        "result.txt": text.encode() or b"Check complete, no warnings found.\n",
        "result.statuscode": b"1" if report.findings else b"0",
    }


def _warning(found: Finding) -> Mapping[str, object]:
    place = {"start": {"line": found.line}, "end": {"line": found.line}}
    return {
        "ruleName": found.rule,
        "description": found.text,
        "detail": found.text,
        "location": {"sourceIndex": 0, "ranges": [place]},
    }
