"""Dockerfiles with files, configuration and history of their images, recorded from Docker's own builders.

``as`` says from which: both do some things in different ways. Error texts are the daemon's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest
from daemon import Connection, Daemon
from dockerfile_cases import Json, busybox_root, context_of, image_of, plain, query_of

CASES: Mapping[str, Json] = json.loads(Path(__file__).with_suffix("").with_name("dockerfiles.json").read_text())


class Builder:
    """``POST /build`` of one daemon, whose base is ``base``."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._post("/images/create?fromSrc=-&repo=base&changes=CMD%20%5B%22%2Fbin%2Fsh%22%5D", busybox_root())
        self._base = image_of(daemon, self._id("base"))

    def run(self, name: str, case: Json) -> Json:
        """The image, or the error."""
        query = {**query_of(case.get("arguments", [])), "t": name}
        said = self._post(f"/build?{urlencode(query)}", context_of(case))
        if errors := [each.get("error") or each["message"] for each in said if "error" in each or "message" in each]:
            return {"error": errors[-1]}
        return plain(image_of(self._daemon, self._id(name)), self._base)

    def _id(self, name: str) -> str:
        connection = Connection(self._daemon.directory / "docker.sock", 60)
        connection.request("GET", f"/images/{name}/json")
        return str(json.loads(connection.getresponse().read())["Id"])

    def _post(self, path: str, body: bytes) -> list[Json]:
        connection = Connection(self._daemon.directory / "docker.sock", 60)
        connection.request("POST", path, body=body, headers={"Content-Type": "application/x-tar"})
        return [json.loads(line) for line in connection.getresponse().read().splitlines() if line]


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    daemon = Daemon()
    try:
        daemon.start()
        yield Builder(daemon)
    finally:
        daemon.close()


@pytest.mark.parametrize("name", CASES)
def test_an_image_is_as_dockers(builder: Builder, name: str) -> None:
    case = CASES[name]
    if "base" in case:
        builder.run("onb", {"dockerfile": case["base"]})
    made = builder.run(name, case)
    assert made == {key: case[key] for key in ("error", "files_made", "config", "history") if key in case}
