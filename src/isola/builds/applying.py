"""From an instruction and the state before it to the step and the state after it. Pure. Raises ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from posixpath import normpath
from typing import Any

from isola.builds.dockerfile import instructions as syntax
from isola.builds.dockerfile.copying import check_checksum
from isola.builds.dockerfile.expansion import expand, expand_content, expand_words
from isola.builds.dockerfile.instructions import Instruction
from isola.builds.dockerfile.mounts import read_mount
from isola.builds.dockerfile.words import heredoc_of
from isola.builds.state import PROXIES, State
from isola.builds.steps import CopyFiles, MakeDirectory, Nothing, RunProgram, Step
from isola.errors import InvalidInput
from isola.model.file_mode import FileMode
from isola.model.git_address import parse_git
from isola.model.image import HealthCheck
from isola.model.signals import signal_number

MAX_LABELS = 900
"""Of labels, and of variables: what a configuration may have."""
MAX_PORTS = 9000
"""A configuration may have more of them, for bases that leave no room."""
MAX_CHARACTERS = 2 << 20
"""Of a stage's variables, labels, volumes, triggers and history together: each step writes all of them."""
_LONGEST_RANGE = 256
"""Ports of a range that are written one by one."""
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_USER = re.compile(r"[^\s:]{1,256}(:[^\s:]{1,256})?")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is the same for all instructions of a stage."""

    escape: str
    arguments: Mapping[str, str]
    """Those before the first stage, and the predefined ones."""
    given: Mapping[str, str]
    """Build arguments of the request."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The step, and the state after it without its entry of the history."""

    step: Step
    state: State
    created_by: str
    """For the history."""


def apply(instruction: Instruction, state: State, scope: Scope) -> Applied:
    """Raises ValueError."""
    applied: Applied = _APPLY[type(instruction)](instruction, state, scope)
    if _characters(applied.state) > MAX_CHARACTERS:
        raise ValueError(f"variables, labels and history have more than {MAX_CHARACTERS} characters together")
    return applied


def _characters(state: State) -> int:
    config = state.config
    pairs = (state.arguments, config.environment, config.labels)
    texts = (config.volumes, config.on_build, config.exposed_ports, config.command, config.entrypoint)
    return (
        sum(len(name) + len(value) for each in pairs for name, value in each.items())
        + sum(len(text) for each in texts for text in each)
        + state.told_characters
    )


def _expanded(text: str, state: State, scope: Scope) -> str:
    return expand(text, state.variables, scope.escape)


def _configured(instruction: Instruction, state: State, created_by: str = "", **changes: Any) -> Applied:
    config = replace(state.config, **changes)
    return Applied(Nothing(), replace(state, config=config), created_by or instruction.text)


def _argument(instruction: syntax.Arg, state: State, scope: Scope) -> Applied:
    arguments = dict(state.arguments)
    for name, default in instruction.pairs:
        value = scope.given.get(name)
        if value is None and default is not None:
            value = expand(default, {**arguments, **state.config.environment}, scope.escape)
        if value is None:
            value = scope.arguments.get(name)
        if value is not None:
            arguments[name] = value
    return Applied(Nothing(), replace(state, arguments=arguments), instruction.text)


def _environment(instruction: syntax.Env, state: State, scope: Scope) -> Applied:
    before, found = state.variables, dict(state.config.environment)
    shown = []
    for name, value in instruction.pairs:
        name, value = expand(name, before, scope.escape), expand(value, before, scope.escape)  # noqa: PLW2901
        if not name or "=" in name:
            raise ValueError("ENV names can not be blank")
        found[name] = value
        shown.append(f"{name}={value}")
    return _configured(instruction, state, f"ENV {' '.join(shown)}", environment=_bounded(found))


def _label(instruction: syntax.Label, state: State, scope: Scope) -> Applied:
    pairs = [(_expanded(name, state, scope), _expanded(value, state, scope)) for name, value in instruction.pairs]
    if not all(name for name, _ in pairs):
        raise ValueError("LABEL names can not be blank")
    text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
    return _configured(instruction, state, text, labels=_bounded({**state.config.labels, **dict(pairs)}))


def _bounded(found: dict[str, str]) -> dict[str, str]:
    if len(found) > MAX_LABELS:
        raise ValueError(f"there are more than {MAX_LABELS}")
    return found


def _maintainer(instruction: syntax.Maintainer, state: State, scope: Scope) -> Applied:
    return Applied(Nothing(), replace(state, author=instruction.value[:1000]), instruction.text)


def _user(instruction: syntax.User, state: State, scope: Scope) -> Applied:
    user = _expanded(instruction.value, state, scope)
    if not _USER.fullmatch(user):
        raise ValueError(f'invalid user "{user[:80]}": it is not USER or USER:GROUP')
    return _configured(instruction, state, f"USER {user}", user=user)


def _workdir(instruction: syntax.Workdir, state: State, scope: Scope) -> Applied:
    path = _expanded(instruction.value, state, scope)
    if not path:
        raise ValueError("cannot normalize nothing")
    cwd = absolute(path, state.config.cwd)
    applied = _configured(instruction, state, f"WORKDIR {cwd}", cwd=cwd)
    return replace(applied, step=MakeDirectory(cwd, state.config.user))


def absolute(path: str, cwd: str) -> str:
    """Without ``.`` and ``..``; ``..`` of the root is the root."""
    if len(path) > 4000 or "\0" in path:
        raise ValueError("the path is too long")
    found = normpath(f"/{cwd}/{path}" if not path.startswith("/") else path)
    return "/" + found.lstrip("/")


def _stop_signal(instruction: syntax.StopSignal, state: State, scope: Scope) -> Applied:
    name = _expanded(instruction.value, state, scope)
    try:
        signal_number(name)
    except InvalidInput as error:
        raise ValueError(f"invalid signal: {name[:40]}") from error
    return _configured(instruction, state, f"STOPSIGNAL {name}", stop_signal=name)


def _expose(instruction: syntax.Expose, state: State, scope: Scope) -> Applied:
    found = {port for text in instruction.values for word in expand_words(text, state.variables, scope.escape)
             for port in _ports(word)}  # fmt: skip
    ports = tuple(sorted({*state.config.exposed_ports, *found}))
    if len(ports) > MAX_PORTS:
        raise ValueError(f"there are more than {MAX_PORTS} ports")
    return _configured(instruction, state, f"EXPOSE [{' '.join(sorted(found))}]", exposed_ports=ports)


def _ports(text: str) -> list[str]:
    """Each port of a range; one that is too large for a configuration stays a range."""
    found = _PORT.fullmatch(text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if found is None or not 1 <= low <= high <= 65535:
        raise ValueError(f"invalid containerPort: {text[:40]}")
    protocol = (found[3] or "tcp").lower()
    if high - low >= _LONGEST_RANGE:
        return [f"{low}-{high}/{protocol}"]
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def _volume(instruction: syntax.Volume, state: State, scope: Scope) -> Applied:
    written = [_expanded(path, state, scope) for path in instruction.values]
    if not all(path.strip() for path in written):  # it would be the root
        raise ValueError("VOLUME specified can not be an empty string")
    paths = [absolute(path, "/") for path in written]
    volumes = tuple(sorted({*state.config.volumes, *paths}))
    return _configured(instruction, state, f"VOLUME [{' '.join(paths)}]", volumes=volumes)


def _shell(instruction: syntax.Shell, state: State, scope: Scope) -> Applied:
    return _configured(instruction, state, shell=instruction.values)


def _on_build(instruction: syntax.OnBuild, state: State, scope: Scope) -> Applied:
    return _configured(instruction, state, on_build=(*state.config.on_build, instruction.trigger))


def _cmd(instruction: syntax.Cmd, state: State, scope: Scope) -> Applied:
    argv = _command(instruction, state)
    config = state.config.running(state.config.entrypoint + argv, state.config.entrypoint)
    return Applied(Nothing(), replace(state, config=config, has_command=True), instruction.text)


def _entrypoint(instruction: syntax.Entrypoint, state: State, scope: Scope) -> Applied:
    """A command of the base is reset, one of this stage is not."""
    argv = _command(instruction, state)
    arguments = state.config.arguments if state.has_command else ()
    config = state.config.running(argv + arguments, argv)
    return Applied(Nothing(), replace(state, config=config), instruction.text)


def _command(instruction: syntax.Command, state: State) -> tuple[str, ...]:
    return (*state.shell, *instruction.argv) if instruction.shell and instruction.argv else instruction.argv


def _health(instruction: syntax.HealthCheck, state: State, scope: Scope) -> Applied:
    check = HealthCheck(
        _command(instruction, state),
        instruction.shell,
        interval=instruction.interval,
        timeout=instruction.timeout,
        start_period=instruction.start_period,
        start_interval=instruction.start_interval,
        retries=instruction.retries,
        disabled=instruction.disabled,
    )
    return _configured(instruction, state, health_check=check)


# --- steps that change files ---------------------------------------------------------------------------------------


def _run(instruction: syntax.Run, state: State, scope: Scope) -> Applied:
    config, argv, script = state.config, instruction.argv, None
    if instruction.shell:
        text, script = _shell_text(instruction)
        argv = (*state.shell, text) if script is None else _interpreted(*script)
    proxies = {name: value for name, value in scope.given.items() if name in PROXIES and name not in state.variables}
    step = RunProgram(
        argv,
        {**proxies, **state.arguments, **config.environment},
        frozenset(proxies),
        config.cwd,
        config.user,
        tuple(read_mount(text, lambda value: _expanded(value, state, scope)) for text in instruction.mounts),
        instruction.network,
        instruction.security == "insecure",
        script,
    )
    shown = argv if script is None else (*state.shell, instruction.argv[0])
    return Applied(step, state, _told(state, shown))


SCRIPTS = "/dev/pipes"
"""Where a here-document that begins with ``#!`` is found while it runs."""


def _shell_text(instruction: syntax.Run) -> tuple[str, tuple[str, str] | None]:
    """What the shell gets; or a script, for one here-document that names its own interpreter."""
    text = instruction.argv[0]
    if not instruction.heredocs:
        return text, None
    if heredoc_of(text) is None:
        return text + "".join(f"\n{each.content}{each.name}" for each in instruction.heredocs), None
    heredoc = instruction.heredocs[0]
    if heredoc.content.lstrip("\t" if heredoc.strip_tabs else "").startswith("#!"):
        return "", (heredoc.name.replace("/", "_"), heredoc.text)
    return heredoc.text, None


def _interpreted(name: str, content: str) -> tuple[str, ...]:
    """As the kernel does it: a program with at most one argument, and the path of the script."""
    first = content.split("\n", 1)[0].removeprefix("#!").strip()
    if not first:
        raise ValueError(f"the heredoc {name[:80]} names no interpreter after #!")
    return (*first.split(maxsplit=1), f"{SCRIPTS}/{name}")


def _told(state: State, argv: tuple[str, ...]) -> str:
    arguments = [f"{name}={value}" for name, value in sorted(state.arguments.items())]
    counted = f"|{len(arguments)} {' '.join(arguments)} " if arguments else ""
    return f"RUN {counted}{' '.join(argv)}"


def _copy(instruction: syntax.Copy, state: State, scope: Scope) -> Applied:
    sources = [_expanded(source, state, scope) for source in instruction.sources]
    repositories = {source: found for source in sources if instruction.add and (found := parse_git(source))}
    addresses = tuple(
        source for source in sources if instruction.add and source not in repositories and _ADDRESS.match(source)
    )
    checksum = _expanded(instruction.checksum, state, scope)
    if checksum and (len(sources) != 1 or not (addresses or repositories)):
        raise ValueError("checksum can't be specified for multiple sources, or for a file of the context")
    if checksum:
        check_checksum(checksum, commit=bool(repositories))
    several = len(sources) + len(instruction.heredocs) > 1
    step = CopyFiles(
        tuple(source for source in sources if source not in addresses and source not in repositories),
        _target(_expanded(instruction.target, state, scope), state, several=several),
        tuple((each.name, expand_content(each.text, state.variables) if each.expand else each.text)
              for each in instruction.heredocs),
        instruction.source_stage,
        _expanded(instruction.owner, state, scope),
        _mode(_expanded(instruction.mode, state, scope)),
        instruction.link,
        instruction.parents,
        tuple(_expanded(each, state, scope) for each in instruction.excludes),
        instruction.add,
        instruction.unpack,
        checksum,
        addresses,
        tuple(repositories.values()),
        instruction.keep_git_dir,
    )  # fmt: skip
    return Applied(step, state, _copy_told(instruction, step, [*sources, _expanded(instruction.target, state, scope)]))


def _copy_told(instruction: syntax.Copy, step: CopyFiles, paths: list[str]) -> str:
    """As BuildKit writes it."""
    options = [f"--{name}={value}" for name, value in
               (("chown", step.owner), ("chmod", step.mode)) if value]  # fmt: skip
    heredocs = [f"<<{each.name}" for each in instruction.heredocs]
    return " ".join(["ADD" if instruction.add else "COPY", *options, *paths[:-1], *heredocs, paths[-1]])


def _target(path: str, state: State, *, several: bool) -> str:
    """Absolute. A directory is meant by a slash or a dot at the end."""
    if not path:
        raise ValueError("the destination is empty")
    if several and not path.endswith("/"):
        raise ValueError(
            "When using COPY with more than one source file, the destination must be a directory and end with a /"
        )
    directory = path.endswith("/") or path.rpartition("/")[2] in (".", "..")
    found = absolute(path, state.config.cwd)
    return f"{found.rstrip('/')}/" if directory else found


def _mode(text: str) -> str:
    if text:
        FileMode.parse(text)
    return text


_APPLY: Mapping[type[Instruction], Callable[[Any, State, Scope], Applied]] = {
    syntax.Arg: _argument,
    syntax.Cmd: _cmd,
    syntax.Copy: _copy,
    syntax.Entrypoint: _entrypoint,
    syntax.Env: _environment,
    syntax.Expose: _expose,
    syntax.HealthCheck: _health,
    syntax.Label: _label,
    syntax.Maintainer: _maintainer,
    syntax.OnBuild: _on_build,
    syntax.Run: _run,
    syntax.Shell: _shell,
    syntax.StopSignal: _stop_signal,
    syntax.User: _user,
    syntax.Volume: _volume,
    syntax.Workdir: _workdir,
}
