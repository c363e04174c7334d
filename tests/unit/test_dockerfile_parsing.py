"""Dockerfiles as text: every instruction in every form, and what is refused, with Docker's messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.builds.dockerfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from isola.builds.dockerfile.lines import MAX_FILE, MAX_INSTRUCTIONS, MAX_LINE
from isola.builds.dockerfile.parsing import MAX_STAGES, parse, trigger
from isola.errors import InvalidInput, TooLarge


def parsed(text: str) -> Dockerfile:
    return parse(text.encode())


def only(text: str) -> Instruction:
    """The one instruction after FROM."""
    stage = parsed(f"FROM scratch\n{text}\n").stages[0]
    assert len(stage.instructions) == 1
    return stage.instructions[0]


def test_the_smallest_file() -> None:
    stage = parsed("FROM busybox").stages[0]
    assert (stage.index, stage.base.image, stage.name, stage.instructions) == (0, "busybox", "0", ())


def test_stages_have_names_platforms_and_numbers() -> None:
    file = parsed(
        "ARG V=1\nARG A B=2\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nRUN x\n"
        "from scratch\nFROM build as final-1.x_y\n"
    )
    assert [each.pairs for each in file.arguments] == [(("V", "1"),), (("A", None), ("B", "2"))]
    assert [stage.name for stage in file.stages] == ["build", "1", "final-1.x_y"]
    assert file.stages[0].base.platform == "$BUILDPLATFORM"
    assert file.stages[0].base.image == "a:$V"


@pytest.mark.parametrize(
    ("text", "argv", "shell"),
    [
        ("RUN echo hi", ("echo hi",), True),
        ("run   echo  hi  ", ("echo  hi",), True),
        ('RUN ["echo", "a b"]', ("echo", "a b"), False),
        ('RUN [ "a","b" ]', ("a", "b"), False),
        ("RUN ['a', 'b']", ("['a', 'b']",), True),
        ('RUN ["a"', ('["a"',), True),
        ("RUN [ -f /x ] && true", ("[ -f /x ] && true",), True),
        ("RUN a \\\n  b", ("a   b",), True),
        ("RUN a \\\n# comment\n\n  # another\n  b \\  \n c", ("a   b  c",), True),
        ("RUN a \\\r\n b\r", ("a  b",), True),
        ("RUN echo '# no comment' # neither", ("echo '# no comment' # neither",), True),
        ('RUN ["\\u00e9"]', ("é",), False),
        ("RUN \\\n  a", ("a",), True),
        ("RUN --mount=type=cache,target=/c --network=none x --mount=y", ("x --mount=y",), True),
    ],
)
def test_run(text: str, argv: tuple[str, ...], shell: bool) -> None:
    run = only(text)
    assert isinstance(run, Run)
    assert (run.argv, run.shell, run.heredocs) == (argv, shell, ())


def test_run_has_flags() -> None:
    run = only('RUN --mount=type=secret,id=a --mount="type=tmpfs,target=/x" --network=none --security=insecure cmd')
    assert isinstance(run, Run)
    assert run.mounts == ("type=secret,id=a", "type=tmpfs,target=/x")
    assert (run.network, run.security, run.argv) == ("none", "insecure", ("cmd",))


def test_the_escape_directive_changes_continuations() -> None:
    file = parsed("# escape=`\n# syntax = docker/dockerfile:1\nFROM a\nRUN x `\n y\nCOPY a C:\\\n")
    assert file.escape == "`" and file.directives["syntax"] == "docker/dockerfile:1"
    assert [each.text for each in file.stages[0].instructions] == ["RUN x  y", "COPY a C:\\"]


@pytest.mark.parametrize("start", ["# a comment\n", "# unknown=x\n", "\n", "FROM b\n"])
def test_a_directive_after_anything_else_is_a_comment(start: str) -> None:
    assert parsed(f"{start}# escape=`\nFROM a\nRUN x\n").escape == "\\"


def test_a_byte_order_mark_and_indentation_are_ignored() -> None:
    assert len(parse(b"\xef\xbb\xbf  FROM a\n\tRUN b\n  # comment\n").stages[0].instructions) == 1


@pytest.mark.parametrize(
    ("text", "command", "contents"),
    [
        ("RUN <<EOF\na\nb\nEOF", "<<EOF", ["a\nb\n"]),
        ("RUN <<EOF\nEOF", "<<EOF", [""]),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", "<<-EOF", ["a\nb\n"]),
        ("RUN cat <<A > /a && cat <<'B' > /b\n1\nA\n# 2 \\\nB", "cat <<A > /a && cat <<'B' > /b", ["1\n", "# 2 \\\n"]),
        ("RUN python3 <<EOF\nFROM x\n\nEOF", "python3 <<EOF", ["FROM x\n\n"]),
        ("RUN 3<<EOF cat\nx\nEOF", "3<<EOF cat", ["x\n"]),
        ("RUN --mount=type=cache,target=/c <<EOF\nx\nEOF", "<<EOF", ["x\n"]),
        ("RUN echo $((1<<2))", "echo $((1<<2))", []),
        ("RUN cat <<<text", "cat <<<text", []),
        ("RUN echo '<<EOF'", "echo '<<EOF'", []),
        ("RUN cat << EOF", "cat << EOF", []),
        ('RUN ["cat", "<<EOF"]', "cat", []),
        ("RUN echo don't <<", "echo don't <<", []),
    ],
)
def test_heredocs_of_run(text: str, command: str, contents: list[str]) -> None:
    run = only(text)
    assert isinstance(run, Run)
    assert run.argv[0] == command
    assert [each.text for each in run.heredocs] == contents


def test_heredocs_of_copy_have_names_and_say_whether_they_expand() -> None:
    copy = only("COPY <<one.txt <<\"two.txt\" src <<-'three' /dst/\n$A\none.txt\n$B\ntwo.txt\n\t$C\n\tthree")
    assert isinstance(copy, Copy)
    assert copy.sources == ("src",) and copy.target == "/dst/"
    found = [(each.name, each.expand, each.text) for each in copy.heredocs]
    assert found == [("one.txt", True, "$A\n"), ("two.txt", False, "$B\n"), ("three", False, "$C\n")]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("COPY a b", {"sources": ("a",), "target": "b", "add": False}),
        ("COPY a b c/", {"sources": ("a", "b"), "target": "c/"}),
        ('COPY ["a b", "c d"]', {"sources": ("a b",), "target": "c d"}),
        ("COPY --from=0 --chown=1:2 --chmod=755 a b", {"source_stage": "0", "owner": "1:2", "mode": "755"}),
        ("COPY --link --parents --exclude=*.t --exclude=b a b", { "parents": True, "excludes": ("*.t", "b")}),
        ("COPY --link=false a b", {"link": False}),
        ('COPY --chown="a:b" a b', {"owner": "a:b"}),
        ("ADD a b", {"add": True, "unpack": None}),
        ("ADD --unpack=false a b", {"unpack": False}),
        (f"ADD --checksum=sha256:{'0' * 64} https://example.org/x /", {"checksum": f"sha256:{'0' * 64}"}),
        ("ADD --keep-git-dir=false a b", {"add": True, "keep_git_dir": False}),
        ("ADD --keep-git-dir https://example.org/x.git /", {"keep_git_dir": True}),
        ("ADD --checksum=012abc https://example.org/x.git /", {"checksum": "012abc"}),
        ("COPY -- --a b", {"sources": ("--a",)}),
    ],
)  # fmt: skip
def test_copy_and_add(text: str, want: dict[str, object]) -> None:
    copy = only(text)
    assert isinstance(copy, Copy)
    assert {key: getattr(copy, key) for key in want} == want


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a=b", (("a", "b"),)),
        ("ENV a b c", (("a", "b c"),)),
        ("ENV a  b  c", (("a", "b  c"),)),
        ("ENV a=b c=\"d e\" f='g h' i=j\\ k", (("a", "b"), ("c", '"d e"'), ("f", "'g h'"), ("i", "j\\ k"))),
        ("ENV a=b \\\n c=d", (("a", "b"), ("c", "d"))),
        ("ENV a=", (("a", ""),)),
        ("ENV a==", (("a", "="),)),
        ("ENV a=${b:-c d}", None),
    ],
)
def test_env(text: str, pairs: tuple[tuple[str, str], ...] | None) -> None:
    if pairs is None:
        with pytest.raises(InvalidInput, match="can't find = in"):
            only(text)
        return
    env = only(text)
    assert isinstance(env, Env) and env.pairs == pairs


@pytest.mark.parametrize(
    ("text", "kind", "attribute", "want"),
    [
        ("LABEL a=b 'c d'=e", Label, "pairs", (("a", "b"), ("'c d'", "e"))),
        ("LABEL a b", Label, "pairs", (("a", "b"),)),
        ("ARG a", Arg, "pairs", (("a", None),)),
        ("ARG a=b c d='e f'", Arg, "pairs", (("a", "b"), ("c", None), ("d", "'e f'"))),
        ("ARG a=", Arg, "pairs", (("a", ""),)),
        ("MAINTAINER A <a@example.org>", Maintainer, "value", "A <a@example.org>"),
        ("USER a:b", User, "value", "a:b"),
        ("WORKDIR /a b", Workdir, "value", "/a b"),
        ("STOPSIGNAL SIGINT", StopSignal, "value", "SIGINT"),
        ("EXPOSE 80 443/tcp $P", Expose, "values", ("80", "443/tcp", "$P")),
        ("VOLUME /a /b", Volume, "values", ("/a", "/b")),
        ('VOLUME ["/a b"]', Volume, "values", ("/a b",)),
        ('SHELL ["/bin/bash", "-c"]', Shell, "values", ("/bin/bash", "-c")),
        ("CMD a b", Cmd, "argv", ("a b",)),
        ('CMD ["a", "b"]', Cmd, "argv", ("a", "b")),
        ("CMD []", Cmd, "argv", ()),
        ('ENTRYPOINT ["a"]', Entrypoint, "argv", ("a",)),
        ("ENTRYPOINT a $b", Entrypoint, "argv", ("a $b",)),
        ("ENTRYPOINT []", Entrypoint, "argv", ()),
        ("ONBUILD RUN a", OnBuild, "trigger", "RUN a"),
        ("onbuild COPY <<A /a\nx\nA", OnBuild, "trigger", "COPY <<A /a\nx\nA"),
        ('HEALTHCHECK CMD ["a", "b"]', HealthCheck, "argv", ("a", "b")),
        ("HEALTHCHECK cmd a b", HealthCheck, "shell", True),
        ("HEALTHCHECK NONE", HealthCheck, "disabled", True),
        ("HEALTHCHECK --interval=1m30s CMD a", HealthCheck, "interval", 90 * 10**9),
        ("HEALTHCHECK --timeout=1.5s CMD a", HealthCheck, "timeout", 15 * 10**8),
        ("HEALTHCHECK --start-period=250ms CMD a", HealthCheck, "start_period", 25 * 10**7),
        ("HEALTHCHECK --start-interval=0 CMD a", HealthCheck, "start_interval", 0),
        ("HEALTHCHECK --retries=5 CMD a", HealthCheck, "retries", 5),
    ],
)
def test_other_instructions(text: str, kind: type[Instruction], attribute: str, want: object) -> None:
    found = only(text)
    assert type(found) is kind
    assert getattr(found, attribute) == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FOO a", "unknown instruction: FOO (did you mean FROM?)"),
        ("RUNN a", "unknown instruction: RUNN (did you mean RUN?)"),
        ("COPPY a b", "unknown instruction: COPPY (did you mean COPY?)"),
        ("nonsense", "unknown instruction: nonsense"),
        ("RUN", "RUN requires at least one argument"),
        ("RUN --mnt=a x", "unknown flag: --mnt"),
        ("RUN --network=x y", 'unsupported network mode "x"'),
        ("RUN --network=none --network=none y", "duplicate flag specified: --network"),
        ("RUN --security=x y", 'security "x" is not valid'),
        ("RUN --mount=type=foo y", 'unsupported mount type "foo"'),
        ("RUN --mount=type=cach,target=/x y", 'unsupported mount type "cach" (did you mean cache?)'),
        ("RUN --mount=type=bind,from=$x,target=/y y", "'from' doesn't support variable expansion"),
        ("RUN --mount=type=tmpfs y", "tmpfs mount requires a target"),
        ("RUN --mount=type=secret y", "invalid secret mount. one of source, target required"),
        ("RUN --mount=type=bind,target=/x,size=1 y", "unexpected key 'size' for mount type 'bind'"),
        ("RUN --mount=type=cache,target=/x,foo=1 y", "unexpected key 'foo' in 'foo=1'"),
        ("RUN --mount=type=cache,target y", "invalid field 'target' must be a key=value pair"),
        ("RUN <<EOF\na", "unterminated heredoc 'EOF'"),
        ("RUN [1, 2]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("COPY", "COPY requires at least two arguments, but only zero were provided"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided. Destination could not be"),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("COPY --from=$x a b", "variable expansion is not supported for --from"),
        ("COPY --chown a b", "missing a value on flag: --chown"),
        ("COPY --chow=1 a b", "unknown flag: --chow (did you mean --chown?)"),
        ("COPY --link=maybe a b", "expecting boolean value for flag link, not: maybe"),
        ("COPY --checksum=x a b", "unknown flag: --checksum"),
        ("ADD --from=x a b", "unknown flag: --from"),
        ("ADD --checksum=md5:1 a b", "invalid checksum digest format: md5:1"),
        ("COPY --keep-git-dir a b", "unknown flag: --keep-git-dir"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a=b c", 'can\'t find = in "c". Must be of the form: name=value'),
        ("ENV =b", "ENV names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can not be blank"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL --a b", "unknown flag: --a"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("SHELL bash", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUNN a", "unknown instruction: RUNN (did you mean RUN?)"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK FOO a", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=x CMD a", 'time: invalid duration "x"'),
        ("HEALTHCHECK --interval=1us CMD a", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a as 1x", 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'),
        ("FROM --foo=x a", "unknown flag: --foo"),
    ],
)  # fmt: skip
def test_wrong_lines_are_named_with_their_number(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parsed(f"# comment\nFROM scratch\n\n{text}\n")
    assert str(caught.value).startswith(
        f"dockerfile parse error on line 4: {'Syntax error - ' * ('find =' in message)}{message}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the Dockerfile cannot be empty"),
        ("# only\n\n# comments", "file with no instructions"),
        ("\n\n", "file with no instructions"),
        ("ARG a=1", "FROM is missing"),
        ("RUN a\nFROM b", "dockerfile parse error on line 1: no build stage in current context"),
        ("FROM a\0b", "is not a text file"),
        ("# escape=x\nFROM a", "dockerfile parse error on line 1: invalid escape token 'x'"),
        ("# escape=\\\n# escape=`\nFROM a", "line 2: only one escape parser directive can be used"),
    ],
)
def test_files_that_cannot_be_built(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parsed(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\n" + "#" * MAX_FILE,
        "FROM a\n" * (MAX_STAGES + 1),
        "FROM a\n" + "RUN b\n" * MAX_INSTRUCTIONS,
        "FROM a\nRUN " + "x" * MAX_LINE,
        "FROM a\nRUN " + "x\\\n" * (MAX_LINE + 1),
        "FROM a\nRUN" + " <<A" * 200,
        "FROM a\nCOPY " + "x " * 2000 + "/",
    ],
    ids=["file", "stages", "instructions", "line", "continuations", "heredocs", "sources"],
)
def test_everything_has_a_bound(text: str) -> None:
    with pytest.raises((TooLarge, InvalidInput)):
        parsed(text)


def test_a_trigger_is_one_instruction() -> None:
    assert isinstance(trigger("RUN a", 7), Run) and trigger("RUN a", 7).number == 7
    copy = trigger("COPY <<A /a\nx\nA", 1)
    assert isinstance(copy, Copy) and copy.heredocs[0].text == "x\n"
    for text in ("RUN a\nRUN b", "FROM a", "ONBUILD RUN a", "", "FOO"):
        with pytest.raises(InvalidInput):
            trigger(text, 1)


@given(st.text(alphabet="FROMfromRUNCOPYADENV \\\n\t<>-=\"'[]{}$#:/a1,", max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed(f"FROM a\n{text}")
    except InvalidInput as error:
        assert error.field == "dockerfile"
