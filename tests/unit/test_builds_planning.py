"""From Dockerfiles to stages, states and steps: which are built, what variables are, what instructions change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from isola.builds.applying import Scope, apply
from isola.builds.dockerfile.parsing import parse
from isola.builds.platforms import Platform
from isola.builds.stages import Plan, Source, plan
from isola.builds.state import DEFAULT_PATH, State, empty, of_image, of_stage
from isola.builds.steps import CopyFiles, Inputs, MakeDirectory, RunProgram, Step, key
from isola.errors import InvalidInput, IsolaError, NotFound, Unsupported
from isola.images.oci_config import OciConfig, read_config, write_config
from isola.model.git_address import GitAddress
from isola.model.image import HealthCheck, ImageConfig

AMD64, ARM = Platform("amd64"), Platform("arm", "v7")


def planned(text: str, target: str = "", given: Mapping[str, str] | None = None, platform: Platform = AMD64) -> Plan:
    return plan(parse(text.encode()), given=given or {}, target=target, host=AMD64, platform=platform)


def after(text: str, given: Mapping[str, str] | None = None, state: State | None = None) -> tuple[list[Step], State]:
    """All steps of a stage's instructions, and its last state."""
    made = planned(f"FROM scratch\n{text}\n" if "FROM" not in text else text, given=given)
    scope, steps = Scope(made.dockerfile.escape, made.arguments, made.given), []
    state = state or empty()
    for instruction in made.stages[made.target].stage.instructions:
        applied = apply(instruction, state, scope)
        state = applied.state.noted(applied.created_by, None, empty=True)  # type: ignore[arg-type]
        steps.append(applied.step)
    return steps, state


# --- stages --------------------------------------------------------------------------------------------------------

SEVERAL = """
ARG BASE=busybox
FROM $BASE AS one
FROM one AS two
COPY --from=three-not-yet a b
FROM alpine AS three
RUN --mount=from=one,target=/x --mount=type=cache,target=/c true
FROM scratch AS four
COPY --from=two /a /b
COPY --from=0 /a /c
COPY --from=example.org/image:1 /a /d
FROM scratch AS unused
"""


def test_bases_are_stages_and_images() -> None:
    made = planned(SEVERAL)
    assert [each.base for each in made.stages] == [
        Source(image="busybox"), Source(stage=0), Source(image="alpine"), Source(image="scratch"),
        Source(image="scratch"),
    ]  # fmt: skip
    assert made.target == 4


@pytest.mark.parametrize(
    ("target", "reachable"),
    [("", (4,)), ("four", (0, 1, 3)), ("3", (0, 1, 3)), ("THREE", (0, 2)), ("one", (0,)), ("unused", (4,))],
)
def test_only_what_the_target_needs_is_built(target: str, reachable: tuple[int, ...]) -> None:
    assert planned(SEVERAL, target).reachable() == reachable


def test_a_name_is_that_of_an_earlier_stage_or_of_an_image() -> None:
    made = planned(SEVERAL)
    assert made.source("three-not-yet", 1) == Source(image="three-not-yet")
    assert made.source("Two", 3) == Source(stage=1)
    for name in ("3", "4", "four"):
        with pytest.raises(ValueError, match="invalid from flag value"):
            made.source(name, 3)


@pytest.mark.parametrize(
    ("text", "target", "error", "message"),
    [
        ("FROM a", "b", NotFound, 'target stage "b" could not be found'),
        ("FROM a", "1", NotFound, 'target stage "1" could not be found'),
        ("FROM $x", "", InvalidInput, "line 1: base name ($x) should not be blank"),
        ("FROM --platform=$x a", "", InvalidInput, "empty platform value from expression $x"),
        ("FROM --platform=plan9/x a", "", Unsupported, "Images for plan9 cannot be built"),
        ("FROM --platform=linux/vax a", "", InvalidInput, "line 1: Unknown architecture 'vax'"),
        ("FROM a\nCOPY --from=0 b c", "", InvalidInput, "line 2: invalid from flag value 0"),
        ("ARG a=${b:?needed}\nFROM a", "", InvalidInput, "line 1: b: needed"),
    ],
)
def test_plans_that_are_refused(text: str, target: str, error: type[IsolaError], message: str) -> None:
    with pytest.raises(error) as caught:
        planned(text, target)
    assert message in str(caught.value)


def test_platforms_are_variables() -> None:
    text = "FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=linux/arm64/v8 c\nFROM d"
    made = planned(text, platform=ARM)
    assert [str(each.platform) for each in made.stages] == ["linux/amd64", "linux/arm64", "linux/arm/v7"]
    assert (made.arguments["TARGETPLATFORM"], made.arguments["TARGETVARIANT"]) == ("linux/arm/v7", "v7")


# --- arguments and variables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "given", "want"),
    [
        ("ARG a=1\nENV x=$a", {}, "1"),
        ("ARG a=1\nENV x=$a", {"a": "2"}, "2"),
        ("ENV x=$a", {"a": "2"}, ""),
        ("ARG a\nENV x=${a-unset}", {}, "unset"),
        ("ARG a=1 b=$a\nENV x=$b", {}, "1"),
        ("ENV a=env\nARG a=arg\nENV x=$a", {"a": "given"}, "env"),
        ("ARG a=arg\nENV a=env\nENV x=$a", {}, "env"),
        ("ENV a=1\nENV a=2 x=$a", {}, "1"),
        ("ARG a=global\nFROM scratch\nENV x=$a", {}, ""),
        ("ARG a=global\nFROM scratch\nARG a\nENV x=$a", {}, "global"),
        ("ARG a=global\nFROM scratch\nARG a=local\nENV x=$a", {}, "local"),
        ("ARG a=global\nFROM scratch\nARG a\nENV x=$a", {"a": "given"}, "given"),
        ("ARG a\nFROM scratch\nARG a\nENV x=$a", {"a": "given"}, "given"),
        ("ARG TARGETARCH\nENV x=$TARGETARCH", {}, "amd64"),
        ("ENV x=$TARGETARCH", {}, ""),
        ("ENV x=\"a b\" y='$x'\nENV x=$y", {}, "$x"),
        ("ENV x a b  c", {}, "a b  c"),
        ("ENV p=/a/b\nENV x=${p##*/}", {}, "b"),
        ("# escape=`\nFROM scratch\nENV x=a\\b`$c", {}, "a\\b$c"),
    ],
)
def test_scopes_of_variables(text: str, given: Mapping[str, str], want: str) -> None:
    _, state = after(text, given)
    assert state.config.environment["x"] == want


def test_a_stage_inherits_arguments_and_environment_of_its_base() -> None:
    _, base = after("ARG a=1\nENV e=2\nCMD x\nONBUILD RUN y")
    assert base.config.on_build == ("RUN y",)
    _, state = after("ENV x=$a$e", state=of_stage(base))
    assert state.config.environment["x"] == "12" and state.config.on_build == ()


def test_proxies_need_no_declaration_and_do_not_count() -> None:
    (step,), state = after("RUN x", {"http_proxy": "http://p.example:1", "other": "y"})
    assert isinstance(step, RunProgram)
    assert step.environment == {"http_proxy": "http://p.example:1", "PATH": DEFAULT_PATH}
    (other,), _ = after("RUN x", {})
    assert key(step, Inputs((), "p")) == key(other, Inputs((), "p"))
    assert "http_proxy" not in state.history[-1].created_by
    (declared,), _ = after("ARG http_proxy\nRUN x", {"http_proxy": "1"})[0][1:], None
    assert key(declared, Inputs((), "p")) != key(other, Inputs((), "p"))


def test_a_program_is_another_one_where_others_answer_it() -> None:
    (step,), _ = after("RUN x", {})
    places = [
        (),
        ("blue", "default", ""),
        ("red", "default", ""),
        ("red", "lab", ""),
        ("red", "lab", "mirror=10.0.0.1"),
    ]
    assert len({key(step, Inputs((), "p", (), around)) for around in places}) == len(places)


# --- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("CMD a b", {"command": ("/bin/sh", "-c", "a b")}),
        ('CMD ["a", "$b"]', {"command": ("a", "$b")}),
        ('SHELL ["/bin/bash", "-ec"]\nCMD a', {"command": ("/bin/bash", "-ec", "a"), "shell": ("/bin/bash", "-ec")}),
        ('ENTRYPOINT ["a"]\nCMD ["b"]', {"entrypoint": ("a",), "command": ("a", "b")}),
        ('CMD ["b"]\nENTRYPOINT ["a"]', {"entrypoint": ("a",), "command": ("a", "b")}),
        ("ENTRYPOINT a", {"entrypoint": ("/bin/sh", "-c", "a"), "command": ("/bin/sh", "-c", "a")}),
        ('ENTRYPOINT ["a"]\nENTRYPOINT []', {}),
        ("USER 1:2", {"user": "1:2"}),
        ("ARG u=me\nUSER $u", {"user": "me"}),
        ("WORKDIR /a\nWORKDIR b/../c\nWORKDIR ./d", {"cwd": "/a/c/d"}),
        ("WORKDIR ../../x", {"cwd": "/x"}),
        ("STOPSIGNAL sigint", {"stop_signal": "sigint"}),
        ("EXPOSE 80 53/UDP 8000-8002", {"exposed_ports": ("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")}),
        ("EXPOSE 1-65535", {"exposed_ports": ("1-65535/tcp",)}),
        ("ARG p='1 2'\nEXPOSE $p", {"exposed_ports": ("1/tcp", "2/tcp")}),
        ("VOLUME /b a\nVOLUME /b/", {"volumes": ("/a", "/b")}),
        ("LABEL a=1 \"b c\"='d e'\nLABEL a=2", {"labels": {"a": "2", "b c": "d e"}}),
        ("HEALTHCHECK --retries=2 CMD a b", {"health_check": HealthCheck(("/bin/sh", "-c", "a b"), True, retries=2)}),
        ('HEALTHCHECK CMD ["a"]', {"health_check": HealthCheck(("a",))}),
        ("HEALTHCHECK NONE", {"health_check": HealthCheck(disabled=True)}),
    ],
)
def test_instructions_change_the_configuration(text: str, changes: Mapping[str, object]) -> None:
    _, state = after(text)
    assert state.config == replace(empty().config, **changes)  # type: ignore[arg-type]


def test_many_ports_are_exposed_and_read_again() -> None:
    ports = [f"{number}/tcp" for number in range(1, 9001)]
    config = after("EXPOSE " + " ".join(ports))[1].config
    assert set(config.exposed_ports) == set(ports)
    written = write_config(OciConfig("x86_64", datetime(2001, 1, 1, tzinfo=UTC), (), config))
    assert read_config(written).run.exposed_ports == config.exposed_ports


def test_the_order_of_ports_makes_no_other_image() -> None:
    """Its history says them as BuildKit's does."""
    one, other = (after(f"EXPOSE {ports}")[1] for ports in ("80 2375 53/udp", "53/UDP 2375 80"))
    assert one == other and [each.created_by for each in one.history] == ["EXPOSE [2375/tcp 53/udp 80/tcp]"]


@pytest.mark.parametrize("text", ['CMD ["/app"]', 'ENTRYPOINT ["/app"]', 'STOPSIGNAL SIGUSR1\nCMD ["/app"]'])
def test_a_command_makes_a_distribution_the_base_of_a_program(text: str) -> None:
    base = State(ImageConfig(system=True, command=("/sbin/init",), stop_signal="SIGRTMIN+3"))
    config = after(text, state=base)[1].config
    assert (config.system, config.command, config.stop_signal) == (False, ("/app",), "SIGTERM")
    assert after('RUN x\nCMD ["/sbin/init"]', state=base)[1].config.system


def test_an_entrypoint_resets_the_command_of_the_base() -> None:
    base = State(ImageConfig(command=("/init", "x"), entrypoint=("/init",)))
    assert after('ENTRYPOINT ["a"]', state=base)[1].config.command == ("a",)
    assert after('CMD ["y"]', state=base)[1].config.command == ("/init", "y")
    assert after('CMD ["y"]\nENTRYPOINT ["a"]', state=base)[1].config.command == ("a", "y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("USER a b", "invalid user"), ("USER $x", "invalid user"), ("WORKDIR $x", "cannot normalize nothing"),
        ("STOPSIGNAL SIGFOO", "invalid signal: SIGFOO"), ("EXPOSE 0", "invalid containerPort: 0"),
        ("ENV e=''\nVOLUME /a $e", "VOLUME specified can not be an empty string"),
        ("EXPOSE " + " ".join(map(str, range(1, 9002))), "more than 9000 ports"),
        ("EXPOSE 80/icmp", "invalid containerPort: 80/icmp"), ("EXPOSE 9-8", "invalid containerPort"),
        ("ENV $x=1", "ENV names can not be blank"), ("LABEL '$'=${x:?no}", "x: no"),
        ("COPY a b /c", "must be a directory and end with a /"), ("COPY a $x", "the destination is empty"),
        ("COPY --chmod=9 a b", "invalid chmod parameter: '9'"), ("ADD git@example.org:x /", "by https and http only"),
        ("ADD https://example.org/x.git#../x /", "not a branch, tag or commit"),
        ("ADD https://example.org/x.git#v1:../b /", "not a directory of a Git"),
        ("ADD https://me:secret@example.org/x.git /", "has a name or password"),
        ("ADD --checksum=sha256:" + "0" * 64 + " https://example.org/x.git /", "invalid checksum digest format"),
        ("ADD --checksum=0123456 https://example.org/x /", "invalid checksum digest format"),
        ("ADD --checksum=sha256:" + "0" * 64 + " a /", "checksum can't be specified"),
        ("RUN --mount=type=$x,target=/y z", "unsupported mount type"),
    ],
)  # fmt: skip
def test_values_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        after(text)
    assert message in str(caught.value)


# --- steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "argv", "script"),
    [
        ("RUN a $b", ("/bin/sh", "-c", "a $b"), None),
        ('RUN ["a", "$b"]', ("a", "$b"), None),
        ("RUN <<EOF\na\nb\nEOF", ("/bin/sh", "-c", "a\nb\n"), None),
        ("RUN <<-EOF\n\ta\n\tEOF", ("/bin/sh", "-c", "a\n"), None),
        (
            "RUN <<EOF\n#!/usr/bin/env python3\nx\nEOF",
            ("/usr/bin/env", "python3", "/dev/pipes/EOF"),
            ("EOF", "#!/usr/bin/env python3\nx\n"),
        ),
        ("RUN cat <<A > /x; cat <<B\n1\nA\n2\nB", ("/bin/sh", "-c", "cat <<A > /x; cat <<B\n1\nA\n2\nB"), None),
    ],
)
def test_programs(text: str, argv: tuple[str, ...], script: tuple[str, str] | None) -> None:
    (step,), _ = after(text)
    assert isinstance(step, RunProgram) and (step.argv, step.script) == (argv, script)


def test_a_program_runs_as_the_configuration_says() -> None:
    steps, state = after("ARG a=1\nENV e=2\nUSER me\nWORKDIR /w\nRUN --mount=type=cache,target=/c/$a x")
    run = steps[-1]
    assert isinstance(run, RunProgram)
    assert (run.environment["a"], run.environment["e"], run.user, run.cwd) == ("1", "2", "me", "/w")
    assert run.mounts[0].target == "/c/1"
    assert steps[-2] == MakeDirectory("/w", "me")
    assert state.history[-1].created_by == "RUN |1 a=1 /bin/sh -c x"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("WORKDIR /w\nCOPY a b", {"sources": ("a",), "target": "/w/b"}),
        ("WORKDIR /w\nCOPY a .", {"target": "/w/"}),
        ("COPY a /", {"target": "/"}),
        ("COPY a b ../c/", {"sources": ("a", "b"), "target": "/c/"}),
        ("ARG x=1\nCOPY --chown=$x --chmod=0$x a$x b$x", {"owner": "1", "mode": "01", "target": "/b1"}),
        ("ARG x=1\nCOPY <<A <<'B' /\n$x\nA\n$x\nB", {"files": (("A", "1\n"), ("B", "$x\n")), "target": "/"}),
        ("ADD https://example.org/a b /", {"sources": ("b",), "addresses": ("https://example.org/a",)}),
        (
            "ARG v=1\nADD --keep-git-dir https://example.org/a.git#v$v:/b/c /",
            {
                "sources": (), "addresses": (), "keep_git_dir": True,
                "repositories": (GitAddress("https://example.org/a.git", "v1", "b/c"),),
            },
        ),
        ("COPY https://example.org/a /", {"sources": ("https://example.org/a",), "addresses": ()}),
    ],
)  # fmt: skip
def test_copies(text: str, want: Mapping[str, object]) -> None:
    step = after(text)[0][-1]
    assert isinstance(step, CopyFiles)
    assert {name: getattr(step, name) for name in want} == want


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("RUN x", "RUN  x", True),
        ("RUN x", "RUN y", False),
        ("RUN x", "ENV a=1\nRUN x", False),
        ("RUN x", "ARG a=1\nRUN x", False),
        ("RUN x", "LABEL a=1\nRUN x", True),
        ("RUN x", "USER 1\nRUN x", False),
        ("RUN x", "RUN --network=none x", False),
        ("RUN x", "RUN --mount=type=cache,target=/c x", False),
        ("COPY a b", "COPY a /b", True),
        ("COPY a b", "COPY --chown=1 a b", False),
        ("ARG v=1\nCOPY a b", "ARG v=2\nCOPY a b", True),
        ("ARG v=1\nRUN a", "ARG v=2\nRUN a", False),
    ],
)
def test_a_key_is_made_of_what_matters(one: str, other: str, same: bool) -> None:
    keys = [key(after(text)[0][-1], Inputs(("sha256:1",), "linux/amd64", ("x",))) for text in (one, other)]
    assert (keys[0] == keys[1]) is same


def test_a_key_depends_on_what_is_below_and_on_what_is_copied_but_a_linked_copy_only_on_that() -> None:
    (copy,), (linked,) = after("COPY a b")[0], after("COPY --link a b")[0]
    inputs = [Inputs((below,), "p", (source,)) for below, source in (("1", "x"), ("2", "x"), ("1", "y"))]
    inputs.append(Inputs(("1",), "q", ("x",)))
    assert len({key(copy, each) for each in inputs}) == 4
    assert len({key(linked, each) for each in inputs}) == 3


def test_the_base_image_brings_its_configuration_and_history() -> None:
    state = of_image(
        read_config(
            b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"author":"me",'
            b'"config":{"Env":["A=1"],"Cmd":["x"],"OnBuild":["RUN y"]},"history":[{"created_by":"z"}]}'
        )
    )
    assert state.config.environment == {"A": "1", "PATH": DEFAULT_PATH} and state.config.command == ("x",)
    assert (state.history[0].created_by, state.author, state.config.on_build) == ("z", "me", ())
