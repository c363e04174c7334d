"""Options of BuildKit's frontend: what they ask the builder for, and what is refused."""

from __future__ import annotations

import pytest

from isola.doors.docker.buildkit.attributes import directories_in, request_of, upload_in
from isola.doors.docker.buildkit.outputs import Kind, Outputs, outputs_of
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import InvalidInput, IsolaError, Unsupported
from isola.model.build import Output
from isola.model.build_cache import CacheExport, CacheType


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
        "web",
    )
    assert found.project == "web"
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
        request_of({name: value}, "default")


def test_caches_are_imported_and_exported() -> None:
    given = '[{"Type":"registry","Attrs":{"ref":"reg.example/c"}},{"Type":"gha","Attrs":{"scope":"x"}}]'
    options = {"cache-imports": given, "cache-from": "a,b:1", "build-arg:BUILDKIT_INLINE_CACHE": "1"}
    found = request_of(options, "default")
    names = ["docker.io/library/a:latest", "docker.io/library/b:1", "reg.example/c:latest"]
    assert [each.name for each in found.imports] == names and found.arguments == {}
    assert found.exports == (CacheExport(CacheType.INLINE),)
    for text in ("[", "{}", '[{"Type":"registry"}]', '[{"Type":"registry","Attrs":{"ref":"A B"}}]', "[5]"):
        with pytest.raises(IsolaError):
            request_of({"cache-imports": text}, "default")
    entries = [message({1: "registry", 2: {"ref": "reg.example/c", "mode": "min"}}), message({1: "inline"})]
    wanted = Message(message({8: message({4: entries}), 13: message({1: "moby"})}))
    assert outputs_of(wanted).caches == (
        CacheExport(CacheType.REGISTRY, "reg.example/c:latest", everything=False), CacheExport(CacheType.INLINE)
    )  # fmt: skip
    with pytest.raises(Unsupported):
        outputs_of(Message(message({8: message({4: [message({1: "local", 2: {"dest": "x"}})]})})))
    with pytest.raises(InvalidInput, match="more than"):
        outputs_of(Message(message({8: message({4: [message({1: "inline"})] * 101})})))


def test_further_contexts_are_directories_of_the_archive() -> None:
    attributes = {"context:b": "local:y", "context:a": "docker-image://x", "context:c": "local:../z"}
    assert directories_in(attributes) == {"context-1": "y", "context-2": "../z"}
    assert request_of(attributes, "default").contexts == {
        "b": "local:context-1", "a": "docker-image://x", "c": "local:context-2"
    }  # fmt: skip
    with pytest.raises(InvalidInput):
        request_of({"context:NO": "local:x"}, "default")


def wanted_of(*exporters: tuple[str, dict[str, str]]) -> Outputs:
    return outputs_of(Message(message({13: [message({1: kind, 2: attributes}) for kind, attributes in exporters]})))


def test_names_are_checked() -> None:
    assert wanted_of(("moby", {"name": "app,registry.example/x:v1,app"})).names == (
        "docker.io/library/app:latest", "registry.example/x:v1"
    )  # fmt: skip
    for names in ("UPPER", "a:b:c", ",".join(f"a{each}" for each in range(101))):
        with pytest.raises(InvalidInput):
            wanted_of(("image", {"name": names}))


def test_several_outputs_of_one_build() -> None:
    found = wanted_of(
        ("local", {}), ("docker", {"name": "a"}), ("image", {"name": "r.example/b,c:1", "push": "true"}), ("tar", {})
    )
    assert found.kind is Output.IMAGE and found.names == ("r.example/b:latest", "docker.io/library/c:1")
    assert [(each.kind, each.number) for each in found.deliveries] == [(Kind.TREE, 0), (Kind.DOCKER, 1), (Kind.TAR, 3)]
    assert found.deliveries[1].names == ("docker.io/library/a:latest",)
    assert [each.to.full for each in found.pushes] == ["r.example/b:latest", "docker.io/library/c:1"]
    assert wanted_of(("docker", {"name": "a"}), ("local", {})).kind is Output.ARCHIVE
    assert wanted_of().kind is Output.FILES and not wanted_of().deliveries, "without an output nothing is recorded"


def test_what_is_pushed() -> None:
    (pushed,) = wanted_of(("registry", {"name": "r.example/b", "push-by-digest": "true"})).pushes
    assert pushed.by_digest and not pushed.to.tag
    assert wanted_of(("image", {"name": "r.example/b", "push": "true", "push-by-digest": "true"})).names == ()
    assert not wanted_of(("moby", {"name": "a", "push": "true"})).pushes, "that client pushes itself"
    with pytest.raises(InvalidInput, match="needs a name"):
        wanted_of(("image", {"push": "true"}))


def test_an_upload_is_known_by_its_place() -> None:
    assert upload_in({"context": "http://buildkit-session/abc"}) == "/abc"
    assert upload_in({"context": "http://example.com/abc"}) == "" and upload_in({}) == ""
    assert request_of({"context": "http://buildkit-session/abc"}, "default").dockerfile == "Dockerfile"
