"""Options of BuildKit's frontend: what they ask the builder for, and what is refused."""

from __future__ import annotations

import pytest

from isola.doors.docker.buildkit.attributes import directories_in, request_of, upload_in
from isola.errors import InvalidInput, IsolaError, Unsupported


def test_options_become_a_request() -> None:
    found = request_of(
        {
            "filename": "sub/File",
            "target": "two",
            "platform": "linux/amd64",
            "build-arg:A": "b",
            "build-arg:BUILDKIT_INLINE_CACHE": "1",
            "label:of": "me",
            "no-cache": "",
            "image-resolve-mode": "pull",
            "force-network-mode": "none",
            "add-hosts": "db=192.0.2.1",
            "shm-size": "1048576",
            "ulimit": "nofile=10:20,core=-1:-1",
            "attest:provenance": "mode=min",
            "local-sessionid:context": "s",
        },
        "app,registry.example/x:v1,app",
        "web",
    )
    assert found.names == ("docker.io/library/app:latest", "registry.example/x:v1") and found.project == "web"
    assert (found.dockerfile, found.target, found.platform) == ("sub/File", "two", "linux/amd64")
    assert found.arguments == {"A": "b"} and found.labels == {"of": "me"}
    assert found.no_cache and found.pull and found.network == "none"
    assert found.config == {
        "isola.hosts": "db=192.0.2.1",
        "isola.shm.size": "1048576",
        "limits.kernel.nofile": "10:20",
        "limits.kernel.core": "unlimited:unlimited",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context:other", "oci-layout:other@sha256:1"),
        ("requestid", "frontend.lint"),
        ("attest:sbom", ""),
        ("cgroup-parent", "x"),
        ("source", "docker/dockerfile:1"),
        ("unheard", "of"),
        ("platform", "linux/amd64,linux/arm64"),
        ("force-network-mode", "mine"),
    ],
)
def test_what_is_not_offered_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unsupported):
        request_of({name: value}, "", "default")


def test_further_contexts_are_directories_of_the_archive() -> None:
    attributes = {"context:b": "local:y", "context:a": "docker-image://x", "context:c": "local:../z"}
    assert directories_in(attributes) == {"context-1": "y", "context-2": "../z"}
    assert request_of(attributes, "", "default").contexts == {
        "b": "local:context-1", "a": "docker-image://x", "c": "local:context-2"
    }  # fmt: skip
    with pytest.raises(InvalidInput):
        request_of({"context:NO": "local:x"}, "", "default")


def test_names_are_checked() -> None:
    for names in ("UPPER", ",".join(f"a{each}" for each in range(101))):
        with pytest.raises(IsolaError):
            request_of({}, names, "default")
    with pytest.raises(InvalidInput):
        request_of({}, "a:b:c", "default")


def test_an_upload_is_known_by_its_place() -> None:
    assert upload_in({"context": "http://buildkit-session/abc"}) == "/abc"
    assert upload_in({"context": "http://example.com/abc"}) == "" and upload_in({}) == ""
    assert request_of({"context": "http://buildkit-session/abc"}, "", "default").dockerfile == "Dockerfile"
