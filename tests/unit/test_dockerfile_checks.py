"""Checks of Dockerfiles: each rule finds its mistake, and nothing in a file that follows them."""

from __future__ import annotations

import pytest

from isola.builds.dockerfile.checks import check
from isola.errors import InvalidInput

GOOD = """\
# syntax=docker/dockerfile:1
ARG VERSION=12
ARG BASE=debian:${VERSION:-12}
FROM --platform=$BUILDPLATFORM $BASE AS build
ARG TARGETARCH
WORKDIR /src
WORKDIR sub
ENV KEY_FILE=/k PUBLIC_KEY=x MONKEY=y PATH=$PATH:/opt/$TARGETARCH
RUN echo $undefined && \\
    # a comment is no gap
    true
EXPOSE 80/tcp 443 $PATH
LABEL a='$single' b="\\$escaped" c="${optional:-x}"
SHELL ["/bin/bash", "-c"]
CMD exec run
FROM build
WORKDIR below
CMD ["run"]
HEALTHCHECK CMD ok
"""


def found(text: str) -> list[tuple[str, int]]:
    return [(each.rule, each.line) for each in check(text.encode()).findings]


def test_a_good_file_has_no_findings() -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS Build\n", [("StageNameCasing", 1)]),
        ("FROM a as b\n", [("FromAsCasing", 1)]),
        ("FROM --platform=$BUILDPLATFORM a as b\n", [("FromAsCasing", 1)]),
        ("from a as b\ncopy x /\n", []),
        ("FROM a AS b\nFROM a AS b\n", [("DuplicateStageName", 2)]),
        ("FROM a AS scratch\n", [("ReservedStageName", 1)]),
        ("FROM a AS context\n", [("ReservedStageName", 1)]),
        ("FROM a\nRUN x && \\\n\n  y\n", [("NoEmptyContinuation", 2)]),
        ("FROM a\nrun x\nRun y\n", [("ConsistentInstructionCasing", 2), ("ConsistentInstructionCasing", 3)]),
        ("from a\nrun x\nRUN y\n", [("ConsistentInstructionCasing", 3)]),
        ("FROM a\nCMD run\n", [("JSONArgsRecommended", 2)]),
        ("FROM a\nENTRYPOINT run\n", [("JSONArgsRecommended", 2)]),
        ('FROM a\nCMD ["a"]\nCMD ["b"]\nCMD ["c"]\n', [("MultipleInstructionsDisallowed", 2)] * 1
         + [("MultipleInstructionsDisallowed", 3)]),
        ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD x\n", [("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nMAINTAINER me\n", [("MaintainerDeprecated", 2)]),
        ("FROM a\nENV x y=z\n", [("LegacyKeyValueFormat", 2)]),
        ("FROM a\nLABEL x y\n", [("LegacyKeyValueFormat", 2)]),
        ("FROM a\nWORKDIR x\n", [("WorkdirRelativePath", 2)]),
        ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\nFROM a\nWORKDIR z\n", [("WorkdirRelativePath", 6)]),
        ("FROM a\nENV AWS_SECRET_KEY=x\n", [("SecretsUsedInArgOrEnv", 2)]),
        ("FROM a\nARG github_token\n", [("SecretsUsedInArgOrEnv", 2)]),
        ("ARG PASSWORD\nFROM a\n", [("SecretsUsedInArgOrEnv", 1)]),
        ("FROM a\nEXPOSE 80/TCP\n", [("ExposeProtoCasing", 2)]),
        ("FROM a\nEXPOSE 127.0.0.1:80:80\n", [("ExposeInvalidFormat", 2)]),
        ("FROM --platform=$TARGETPLATFORM a\n", [("RedundantTargetPlatform", 1)]),
        ("FROM --platform=linux/amd64 a\n", [("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM $a\n", [("UndefinedArgInFrom", 1)]),
        ("ARG a\nFROM $a\n", [("InvalidDefaultArgInFrom", 2)]),
        ("ARG a=1\nFROM x:$a-$a\n", []),
        ("FROM scratch\nCOPY $x /\n", [("UndefinedVar", 2)]),
        ("FROM a\nCOPY $x /\n", []),
        ("FROM a\nARG version\nCOPY $vesion /\n", [("UndefinedVar", 3)]),
        ("FROM scratch AS one\nARG x\nENV y=1\nFROM one\nCOPY $y /\nCOPY $x /\n", [("UndefinedVar", 6)]),
        ("ARG x\nFROM scratch\nCOPY $x /\n", [("UndefinedVar", 3)]),
        ("# escape=`\nFROM scratch\nCOPY `$x \\$y /\n", [("UndefinedVar", 3)]),
    ],
)  # fmt: skip
def test_each_rule_finds_its_mistake(text: str, expected: list[tuple[str, int]]) -> None:
    assert found(text) == expected


def test_rules_are_skipped_by_the_file() -> None:
    text = "FROM a AS B\nCMD run\n"
    assert len(found(text)) == 2
    assert found(f"# check=skip=JSONArgsRecommended\n{text}") == [("StageNameCasing", 2)]
    assert found(f"# check=skip=JSONArgsRecommended,StageNameCasing\n{text}") == []
    assert found(f"# check=skip=all\n{text}") == []
    check(text.encode()).require_none()
    with pytest.raises(InvalidInput, match="lint violation found for rules: StageNameCasing, JSONArgs") as caught:
        check(f"# check=error=true\n{text}".encode()).require_none()
    assert "(line 2)" in caught.value.evidence
    check(f"# check=skip=all;error=true\n{text}".encode()).require_none()
    with pytest.raises(InvalidInput, match="invalid check option"):
        check(f"# check=what\n{text}".encode())


def test_a_finding_says_where_it_is() -> None:
    (finding,) = check(b"FROM a\nCMD run\n").findings
    assert str(finding).startswith("JSONArgsRecommended: JSON arguments recommended for CMD") and "line 2" in str(
        finding
    )


def test_a_large_file_is_checked_in_bounds() -> None:
    text = "FROM scratch\n" + "".join(f"COPY $x{each} /\n" for each in range(3000))
    assert len(found(text)) == 1000


def test_what_is_no_dockerfile() -> None:
    with pytest.raises(InvalidInput, match="unknown instruction"):
        check(b"FROM a\nFOO\n")
