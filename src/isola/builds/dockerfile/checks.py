"""What is allowed in a Dockerfile and mostly a mistake: the rules that BuildKit documents, by their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from isola.builds.dockerfile import instructions as syntax
from isola.builds.dockerfile.expansion import expand
from isola.builds.dockerfile.instructions import Dockerfile, From, Stage
from isola.builds.dockerfile.lines import Line, read_source, wrong
from isola.builds.dockerfile.parsing import parse
from isola.builds.dockerfile.words import first_word, flags_and_rest, words
from isola.errors import InvalidInput
from isola.model.image_reference import parse as parse_reference

_SECRET = re.compile(r"(^|_)(apikey|auth|credentials?|key|password|pword|passwd|secret|token)($|_)", re.IGNORECASE)
_HARMLESS = re.compile(r"(^|_)(public|file)($|_)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", re.ASCII)
_SINGLE_QUOTED = re.compile(r"'[^']*'")
_EXPANDED = frozenset(("ADD", "COPY", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"))
_ONCE: Mapping[type, str] = {syntax.Cmd: "CMD", syntax.Entrypoint: "ENTRYPOINT", syntax.HealthCheck: "HEALTHCHECK"}
_PAIRED: Mapping[type, str] = {syntax.Env: "ENV", syntax.Label: "LABEL"}
_RESERVED = ("context", "scratch")
_PLATFORM = frozenset(f"{of}{what}" for of in ("BUILD", "TARGET") for what in ("PLATFORM", "OS", "ARCH", "VARIANT"))
_ALWAYS = frozenset(("PATH",))
_HOST_PORT = re.compile(r"[^:/]+:.*")
_MOST = 1000
"""Findings, and variables that are compared with known ones."""
_MOST_KNOWN = 100
"""Names with which a wrong one is compared: that takes time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a line does not follow."""

    rule: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text} (line {self.line})"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings in the order of lines, without those that the file skips."""

    findings: tuple[Finding, ...]
    is_error: bool = False
    """The file wants them to be errors (``# check=error=true``)."""

    def require_none(self) -> None:
        """Raises InvalidInput if findings are errors."""
        if self.is_error and self.findings:
            rules = ", ".join(dict.fromkeys(each.rule for each in self.findings))
            raise InvalidInput(
                f"lint violation found for rules: {rules}", field="dockerfile", evidence=str(self.findings[0]),
                remedy="fix these lines, or name the rules in # check=skip=RULE",
            )  # fmt: skip


def check(data: bytes, dockerfile: Dockerfile | None = None, instead: str | None = None) -> Report:
    """``dockerfile``: the same, if it is parsed. ``instead``: in place of the file's directive ``check``.

    Raises InvalidInput, TooLarge for what is no Dockerfile.
    """
    dockerfile = parse(data) if dockerfile is None else dockerfile
    directive = _directive(dockerfile.directives.get("check", "") if instead is None else instead)
    if "all" in directive.skipped:
        return Report((), directive.is_error)
    looked = _Looked(dockerfile, read_source(data).lines)
    found = {finding for rule in _RULES for finding in rule(looked) if finding.rule not in directive.skipped}
    ordered = sorted(found, key=lambda each: (each.line, each.rule, each.text))
    return Report(tuple(ordered[:_MOST]), directive.is_error)


@dataclass(frozen=True, slots=True)
class _Directive:
    skipped: frozenset[str] = frozenset()
    is_error: bool = False


def _directive(text: str) -> _Directive:
    found = _Directive()
    for part in filter(None, (each.strip() for each in text.split(";"))):
        name, _, value = part.partition("=")
        if name.strip() in ("skip", "experimental"):
            rules = frozenset(each.strip() for each in value.split(","))
            found = replace(found, skipped=found.skipped | rules) if name.strip() == "skip" else found
        elif name.strip() == "error" and value.strip() in ("true", "false"):
            found = replace(found, is_error=value.strip() == "true")
        else:
            raise wrong(1, f"invalid check option {part[:80]!r}: skip=RULE,... or error=true")
    return found


@dataclass(frozen=True, slots=True)
class _Looked:
    dockerfile: Dockerfile
    lines: Sequence[Line]

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.dockerfile.stages

    def base(self, stage: Stage) -> Stage | None:
        """The earlier stage that it begins with."""
        name = stage.base.image.lower()
        return next((each for each in reversed(self.stages[: stage.index]) if each.base.name == name), None)


_Found = Iterator[Finding]


# --- names and cases ----------------------------------------------------------------------------------------------


def _stage_names(looked: _Looked) -> _Found:
    seen: set[str] = set()
    for stage in looked.stages:
        base, name = stage.base, stage.base.name
        if not name:
            continue
        _, rest = flags_and_rest(first_word(base.text)[1], looked.dockerfile.escape)
        _, keyword, written = words(rest)
        if written != written.lower():
            yield Finding("StageNameCasing", base.number, f"Stage name '{written}' should be lowercase")
        if keyword.isupper() != base.text[:4].isupper() or keyword.islower() != base.text[:4].islower():
            text = f"'{keyword}' and '{base.text[:4]}' keywords' casing do not match"
            yield Finding("FromAsCasing", base.number, text)
        if name in _RESERVED:
            text = f'Stage name should not use the same name as reserved stage "{name}"'
            yield Finding("ReservedStageName", base.number, text)
        if name in seen:
            text = f'Duplicate stage name "{name}", stage names should be unique'
            yield Finding("DuplicateStageName", base.number, text)
        seen.add(name)


def _cases(looked: _Looked) -> _Found:
    names = [(line.number, first_word(line.text)[0]) for line in looked.lines]
    upper, lower = sum(name.isupper() for _, name in names), sum(name.islower() for _, name in names)
    wanted = "lowercase" if lower > upper else "uppercase"
    for number, name in names:
        if not (name.islower() if wanted == "lowercase" else name.isupper()):
            text = f"Command '{name}' should match the case of the command majority ({wanted})"
            yield Finding("ConsistentInstructionCasing", number, text)


def _gaps(looked: _Looked) -> _Found:
    for line in looked.lines:
        if line.has_gap:
            yield Finding("NoEmptyContinuation", line.number, f"Empty continuation line found in: {line.text[:80]}")


# --- instructions -------------------------------------------------------------------------------------------------


def _commands(looked: _Looked) -> _Found:
    for stage in looked.stages:
        has_shell, seen = False, dict[type, int]()
        for each in stage.instructions:
            has_shell = has_shell or isinstance(each, syntax.Shell)
            kind = type(each)
            if isinstance(each, syntax.Cmd | syntax.Entrypoint) and each.shell and each.argv and not has_shell:
                text = (
                    f"JSON arguments recommended for {_ONCE[kind]} to prevent unintended behavior related to OS signals"
                )
                yield Finding("JSONArgsRecommended", each.number, text)
            if kind in _ONCE and kind in seen:
                text = f"Multiple {_ONCE[kind]} instructions should not be used in the same stage because only the "
                yield Finding("MultipleInstructionsDisallowed", seen[kind], f"{text}last one will be used")
            seen[kind] = each.number


def _deprecated(looked: _Looked) -> _Found:
    for each in (each for stage in looked.stages for each in stage.instructions):
        if isinstance(each, syntax.Maintainer):
            text = "Maintainer instruction is deprecated in favor of using label"
            yield Finding("MaintainerDeprecated", each.number, text)
        if isinstance(each, syntax.Env | syntax.Label) and "=" not in words(first_word(each.text)[1])[0]:
            name = _PAIRED[type(each)]
            text = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
            yield Finding("LegacyKeyValueFormat", each.number, text)


def _directories(looked: _Looked) -> _Found:
    absolute: dict[int, bool] = {}
    for stage in looked.stages:
        base = looked.base(stage)
        known = base is not None and absolute[base.index]
        for each in stage.instructions:
            if isinstance(each, syntax.Workdir):
                path = each.value.strip("\"'")
                if not known and not path.startswith(("/", "$")):
                    text = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                    yield Finding("WorkdirRelativePath", each.number, text)
                known = known or path.startswith(("/", "$"))
        absolute[stage.index] = known


def _secrets(looked: _Looked) -> _Found:
    stages = [each for stage in looked.stages for each in stage.instructions]
    for each in (*looked.dockerfile.arguments, *stages):
        if isinstance(each, syntax.Env | syntax.Arg):
            kind = "ENV" if isinstance(each, syntax.Env) else "ARG"
            for name, _ in each.pairs:
                if _SECRET.search(name) and not _HARMLESS.search(name):
                    text = f'Do not use ARG or ENV instructions for sensitive data ({kind} "{name}")'
                    yield Finding("SecretsUsedInArgOrEnv", each.number, text)


def _ports(looked: _Looked) -> _Found:
    for each in (each for stage in looked.stages for each in stage.instructions):
        for value in each.values if isinstance(each, syntax.Expose) else ():
            _, slash, protocol = value.partition("/")
            if "$" not in value and slash and protocol != protocol.lower():
                text = f"Defined protocol '{value}' in EXPOSE instruction should be lowercase"
                yield Finding("ExposeProtoCasing", each.number, text)
            if "$" not in value and _HOST_PORT.fullmatch(value):
                text = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{value}'"
                yield Finding("ExposeInvalidFormat", each.number, text)


# --- variables ----------------------------------------------------------------------------------------------------


def _bases(looked: _Looked) -> _Found:
    defaults = {name: default for each in looked.dockerfile.arguments for name, default in each.pairs}
    for stage in looked.stages:
        base = stage.base
        if base.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            text = (
                f"Setting platform to predefined {base.platform} in FROM is redundant as this is the default behavior"
            )
            yield Finding("RedundantTargetPlatform", base.number, text)
        if base.platform and "$" not in base.platform:
            text = f'FROM --platform flag should not use constant value "{base.platform}"'
            yield Finding("FromPlatformFlagConstDisallowed", base.number, text)
        used = _used(f"{base.image} {base.platform}", looked.dockerfile.escape)
        for name in used:
            if name not in defaults and name not in _PLATFORM:
                text = f"FROM argument '{name}' is not declared{_meant(name, {*defaults, *_PLATFORM})}"
                yield Finding("UndefinedArgInFrom", base.number, text)
        if used and all(name in defaults for name in used):
            yield from _default(looked, base, defaults)


def _default(looked: _Looked, base: From, defaults: Mapping[str, str | None]) -> _Found:
    """The name of a base image, as it is without build arguments."""
    try:
        variables = {name: expand(value or "", {}, looked.dockerfile.escape) for name, value in defaults.items()}
        parse_reference(expand(base.image, variables, looked.dockerfile.escape))
    except (ValueError, InvalidInput):
        text = f"Default value for ARG {base.image} results in empty or invalid base image name"
        yield Finding("InvalidDefaultArgInFrom", base.number, text)


def _undefined(looked: _Looked) -> _Found:
    """Variables of images are not known here: below those only names that nearly are others are reported."""
    known: dict[int, frozenset[str]] = {}
    left = _MOST
    whole: dict[int, bool] = {}
    for stage in looked.stages:
        base = looked.base(stage)
        whole[stage.index] = whole[base.index] if base is not None else stage.base.image == "scratch"
        inherited = known[base.index] if base is not None else _ALWAYS
        here = set(inherited)
        kept = set(inherited)
        for each in stage.instructions:
            name, rest = first_word(each.text)
            for used in _used(rest, looked.dockerfile.escape) if name.upper() in _EXPANDED else ():
                if used in here or left <= 0:
                    continue
                left -= 1
                meant = _meant(used, here)
                if whole[stage.index] or meant:
                    yield Finding("UndefinedVar", each.number, f"Usage of undefined variable '${used}'{meant}")
            if isinstance(each, syntax.Env | syntax.Arg):
                here |= {name for name, _ in each.pairs}
            if isinstance(each, syntax.Env):
                kept |= {name for name, _ in each.pairs}
        known[stage.index] = frozenset(kept)


def _used(text: str, escape: str) -> list[str]:
    """Names of variables without a default, outside of single quotes."""
    plain = _SINGLE_QUOTED.sub("", text.replace(f"{escape}{escape}", "").replace(f"{escape}$", ""))
    return list(dict.fromkeys(first or second for first, second in _VARIABLE.findall(plain)))


def _meant(name: str, known: Collection[str]) -> str:
    found = get_close_matches(name, known, n=1, cutoff=0.75) if name not in known and len(known) <= _MOST_KNOWN else []
    return f" (did you mean ${found[0]}?)" if found else ""


_RULES: tuple[Callable[[_Looked], _Found], ...] = (
    _stage_names, _cases, _gaps, _commands, _deprecated, _directories, _secrets, _ports, _bases, _undefined,
)  # fmt: skip
