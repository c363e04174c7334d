"""What a Dockerfile offers, as ``docker build --call`` asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from isola.builds.arguments import with_hostname
from isola.builds.dockerfile.lines import MAX_COMMENTS, read_source
from isola.builds.dockerfile.outline import Outline, outline, targets
from isola.builds.dockerfile.parsing import parse
from isola.builds.platforms import Platform
from isola.builds.stages import plan
from isola.model.build import BuildRequest

TEXT = b"""# syntax=docker/dockerfile:1

# VERSION is what is built
ARG VERSION=1.2
# an ordinary comment
# base has everything
FROM --platform=$BUILDPLATFORM app AS base
ARG VERSION
# WHO builds it
ARG WHO=me-$VERSION OTHER
RUN --mount=type=secret,id=tok --mount=type=cache,target=/c --mount=type=ssh true
RUN --mount=type=secret,id=tok,required=true --mount=type=secret,id=$WHO true

# not about it

FROM base
ARG BROKEN=${
FROM scratch AS unused
ARG ELSEWHERE
"""


def outlined(target: str, given: Mapping[str, str]) -> Outline:
    dockerfile, amd64 = parse(TEXT), Platform.parse("linux/amd64")
    made = plan(dockerfile, given=given, target=target, host=amd64, platform=amd64)
    return outline(TEXT, dockerfile, made.target, made.reachable(), {**made.arguments, **given})


def test_stages_with_their_comments() -> None:
    found = targets(TEXT, parse(TEXT))
    assert [(each.name, each.value, each.description, each.is_default) for each in found] == [
        ("base", "app", "has everything", False), ("", "base", "", False), ("unused", "scratch", "", True)
    ]  # fmt: skip
    assert (found[0].line, found[0].platform) == (7, "$BUILDPLATFORM")


def test_options_of_a_stage_are_those_of_all_that_it_needs() -> None:
    found = outlined("1", {"OTHER": "x"})
    assert {name: (each.value, each.description) for name, each in found.arguments.items()} == {
        "VERSION": ("1.2", "is what is built"), "WHO": ("me-1.2", "builds it"), "OTHER": ("x", ""), "BROKEN": ("${", "")
    }  # fmt: skip
    assert [(each.name, each.required, each.line) for each in found.secrets.values()] == [
        ("tok", True, 11), ("me-1.2", False, 12)
    ]  # fmt: skip
    assert list(found.agents) == ["default"] and list(found.caches) == ["/c"]
    assert list(outlined("unused", {}).arguments) == ["VERSION", "ELSEWHERE"] and not outlined("unused", {}).secrets


def test_comments_of_a_line_are_bounded_and_end_at_an_empty_line() -> None:
    lines = read_source(b"# a\n\n# b\n#c\nFROM x\nRUN y\n" + b"# z\n" * 1000 + b"RUN z\n").lines
    assert [line.comments for line in lines[:2]] == [("b", "c"), ()]
    assert len(lines[2].comments) <= MAX_COMMENTS


def test_the_stage_that_is_asked_for_is_a_variable() -> None:
    dockerfile, amd64 = parse(b"FROM x AS y\n"), Platform.parse("linux/amd64")
    for target, value in (("", "default"), ("y", "y")):
        made = plan(dockerfile, given={}, target=target, host=amd64, platform=amd64)
        assert made.arguments["TARGETSTAGE"] == value


def test_the_host_name_of_programs() -> None:
    asked = BuildRequest(arguments={"BUILDKIT_SANDBOX_HOSTNAME": "box"})
    assert with_hostname(asked).config == {"isola.hostname": "box"}
    assert with_hostname(BuildRequest()).config == {}
