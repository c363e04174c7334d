"""Credentials of registries in a user's files and helpers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from isola.client.credentials import credentials_for
from isola.errors import InvalidInput
from isola.model.image_reference import HUB_ADDRESS, parse

Write = Callable[[object], object]
APP = parse("registry.example/team/app")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the configuration of docker; helpers are looked for in ``tmp_path/bin``."""
    (tmp_path / "bin").mkdir()
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return lambda document: (tmp_path / "config.json").write_text(json.dumps(document))


def helper(tmp_path: Path, name: str, answer: str) -> None:
    """It knows ``registry.example`` only."""
    path = tmp_path / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread server\n[ \"$server\" = registry.example ] || exit 1\necho '{answer}'\n")
    path.chmod(0o755)


def test_nothing_is_known_without_files(docker: Write) -> None:
    assert credentials_for(APP) == {}


def test_docker_stores_them_by_server(docker: Write) -> None:
    docker({"auths": {"registry.example": {"auth": "YTpi"}, HUB_ADDRESS: {"auth": "Yzpk"}}})
    assert credentials_for(APP) == {"auth": "YTpi"}
    assert credentials_for(parse("nginx")) == {"auth": "Yzpk"}
    assert credentials_for(parse("other.example/app")) == {}


def test_podman_stores_them_by_repository_too(docker: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "auth.json").write_text(
        json.dumps({"auths": {"registry.example": {"auth": "YTpi"}, "registry.example/team": {"auth": "Yzpk"}}})
    )
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    assert credentials_for(APP) == {"auth": "Yzpk"}
    assert credentials_for(parse("registry.example/other")) == {"auth": "YTpi"}


def test_a_helper_that_prints_no_text_gives_no_credentials(docker: Write, tmp_path: Path) -> None:
    path = tmp_path / "bin" / "docker-credential-odd"
    path.write_bytes(b"#!/bin/sh\nprintf '\\377\\376'\n")
    path.chmod(0o755)
    docker({"credHelpers": {"registry.example": "odd"}})
    with pytest.raises(InvalidInput, match="gave no credentials"):
        credentials_for(APP)


def test_helpers_are_asked(docker: Write, tmp_path: Path) -> None:
    helper(tmp_path, "one", '{"Username": "ann", "Secret": "s"}')
    helper(tmp_path, "two", '{"Username": "<token>", "Secret": "t"}')
    docker({"credsStore": "one", "auths": {"registry.example": {}}})
    assert credentials_for(APP) == {"username": "ann", "password": "s"}
    assert credentials_for(parse("nginx")) == {}
    docker({"credsStore": "one", "credHelpers": {"registry.example": "two"}})
    assert credentials_for(APP) == {"identitytoken": "t"}


@pytest.mark.parametrize("answer", ["", "[]", '{"Username": "ann"}'])
def test_a_helper_that_answers_wrongly(docker: Write, tmp_path: Path, answer: str) -> None:
    helper(tmp_path, "odd", answer)
    docker({"credHelpers": {"registry.example": "odd"}})
    with pytest.raises(InvalidInput, match="odd"):
        credentials_for(APP)


def test_damaged_files_and_missing_helpers(docker: Write, tmp_path: Path) -> None:
    docker({"credHelpers": {"registry.example": "gone"}})
    with pytest.raises(InvalidInput, match="gone"):
        credentials_for(APP)
    docker({"credHelpers": {"registry.example": "../../bin/sh"}})
    with pytest.raises(InvalidInput, match="Invalid credential helper"):
        credentials_for(APP)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidInput, match="Cannot read"):
        credentials_for(APP)
