"""What an instruction says, before variables are filled in."""

from __future__ import annotations

from dataclasses import dataclass, field

from isola.builds.dockerfile.words import Heredoc


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Its place in the file."""

    number: int
    """Of its line, from 1."""
    text: str
    """As written, continuation lines joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """The beginning of a stage."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Instruction):
    """A program: its arguments (``RUN ["a", "b"]``), or one text for the shell."""

    argv: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Command):
    """A program that changes the image."""

    mounts: tuple[str, ...] = ()
    """As written: variables in them are filled in when the instruction's turn has come."""
    network: str = "default"
    security: str = "sandbox"


class Cmd(Command):
    """The default arguments, or program."""


class Entrypoint(Command):
    """The program to which arguments are appended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Command):
    """A command that says whether the program works; durations in nanoseconds, 0 where not given."""

    disabled: bool = False
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY and ADD: files from the context, another stage or image, or addresses."""

    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    target: str
    add: bool = False
    """Addresses are fetched and archives unpacked."""
    source_stage: str = ""
    """``--from``: the name or number of a stage, or an image."""
    owner: str = ""
    mode: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None
    """None: archives of the context are unpacked, those from addresses are not."""
    keep_git_dir: bool = False
    """Of Git repositories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs(Instruction):
    """Names with values."""

    pairs: tuple[tuple[str, str], ...]


class Env(Pairs):
    """Variables of the image."""


class Label(Pairs):
    """Properties of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """Variables of the build, each with its default if there is one."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Single(Instruction):
    """An instruction with one value."""

    value: str


class Maintainer(Single):
    """Who keeps the image; LABEL has replaced it."""


class User(Single):
    """User, and group, of programs that follow."""


class Workdir(Single):
    """The directory of programs that follow."""


class StopSignal(Single):
    """What asks the program to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Several(Instruction):
    """An instruction with a list of values."""

    values: tuple[str, ...]


class Expose(Several):
    """Ports on which the program listens."""


class Volume(Several):
    """Directories whose content is no part of the image."""


class Shell(Several):
    """The program that gets commands which are one text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """An instruction for images that are built from this one."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Stage:
    """The instructions from one FROM to the next."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Its name, or its number."""
        return self.base.name or str(self.index)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file."""

    stages: tuple[Stage, ...]
    arguments: tuple[Arg, ...] = ()
    """Those before the first stage."""
    directives: dict[str, str] = field(default_factory=dict)

    @property
    def escape(self) -> str:
        """The character that escapes the next one."""
        return self.directives.get("escape", "\\")
