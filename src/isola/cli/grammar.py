"""Declarations of verbs: arguments, options and help, used by the parser, the help, the completion and the
reference page.

Not ``argparse``, because importing it takes 8 ms at every start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from isola.cli.context import Context

    Run = Callable[[Context], int | None]


class Argument:
    """A positional argument. ``many`` takes all following arguments; ``rest`` does so too, including options."""

    def __init__(
        self,
        name: str,
        help: str,
        *,
        optional: bool = False,
        many: bool = False,
        rest: bool = False,
        parts: int = 1,
        divides: bool = False,
        complete: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.optional = optional
        self.many = many or rest
        self.rest = rest
        self.parts = parts
        """Number of nested names (``POOL/VOLUME``), which may also be given as separate arguments."""
        self.divides = divides
        """``web1/snap0`` fills this argument and the next one, like ``web1 snap0``."""
        self.complete = complete
        """Its candidates: a kind (``instances``, ``images``, ``files``, ...), or literals separated by spaces."""

    @property
    def shown(self) -> str:
        """As in a usage line."""
        text = f"{self.name}..." if self.many else self.name
        if self.rest:
            text = f"[--] {text}"
        return f"[{text}]" if self.optional else text


class Option:
    """An option. Without ``value`` it is a flag."""

    def __init__(
        self,
        names: str,
        help: str,
        *,
        value: str = "",
        repeat: bool = False,
        choices: Sequence[str] = (),
        default: str = "",
        complete: str = "",
        also: str = "",
    ) -> None:
        self.names = tuple(names.split())
        """As typed: ``-f --format``."""
        self.also = tuple(also.split())
        """Names that LXD's clients use: accepted, but not shown."""
        self.help = help
        self.value = value
        self.repeat = repeat
        self.choices = tuple(choices)
        self.default = default
        self.complete = complete

    def without(self, names: Iterable[str]) -> Option:
        """The same without names that another option has; its key stays."""
        if not (taken := {*names} & {*self.names}):
            return self
        left = " ".join(name for name in self.names if name not in taken)
        return Option(
            left,
            self.help,
            value=self.value,
            repeat=self.repeat,
            choices=self.choices,
            default=self.default,
            complete=self.complete,
        )

    @property
    def key(self) -> str:
        """The key of its value in ``Arguments``: the long name without dashes."""
        return self.names[-1].lstrip("-")

    @property
    def shown(self) -> str:
        """As in a table of options."""
        return ", ".join(self.names) + (f" {self.value}" if self.value else "")


class Command:
    """A verb."""

    def __init__(
        self,
        name: str,
        summary: str,
        run: Run,
        *parameters: Argument | Option,
        examples: Iterable[tuple[str, str]] = (),
        details: str = "",
        aliases: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.path = name
        self.summary = summary
        self.run = run
        self.arguments = [item for item in parameters if isinstance(item, Argument)]
        self.options = [item for item in parameters if isinstance(item, Option)]
        self.examples = tuple(examples)
        """Pairs of a command line and its description."""
        self.details = details
        self.aliases = tuple(aliases)

    @property
    def usage(self) -> str:
        """One line."""
        usage = ["isola", self.path, *(argument.shown for argument in self.arguments)]
        return " ".join([*usage, "[options]"] if not self._rest else [*usage[:2], "[options]", *usage[2:]])

    @property
    def _rest(self) -> bool:
        return any(argument.rest for argument in self.arguments)


class Group:
    """A noun with verbs below it, or with further nouns (``config trust add``)."""

    aliases: Sequence[str] = ()

    def __init__(
        self, name: str, summary: str, *commands: Command | Group, default: str = "", options: Sequence[Option] = ()
    ) -> None:
        self.name = self.path = name
        self.summary = summary
        self.commands = commands
        self.default = default
        """The verb to use if none is given (``lxc snapshot web1``); empty for none."""
        self.options = tuple(options)
        """Options of all its verbs, also accepted before the verb."""
        self._set_paths("")
        for command in self.all():
            own = {name for option in command.options for name in option.names}
            command.options += [option.without(own) for option in self.options]

    def find(self, name: str) -> Command | Group | None:
        """The verb of that name or alias, or the noun."""
        return next((command for command in self.commands if name == command.name or name in command.aliases), None)

    def all(self) -> list[Command]:
        """Every verb below it, also below its nouns."""
        found: list[Command] = []
        for command in self.commands:
            found += command.all() if isinstance(command, Group) else [command]
        return found

    @property
    def examples(self) -> tuple[tuple[str, str], ...]:
        """The examples of its first verb."""
        return self.all()[0].examples[:1]

    def _set_paths(self, parent: str) -> None:
        self.path = f"{parent} {self.name}".strip()
        for command in self.commands:
            if isinstance(command, Group):
                command._set_paths(self.path)
            else:
                command.path = f"{self.path} {command.name}"


GLOBAL_OPTIONS = (
    Option("-h --help", "Show help and examples"),
    Option("--dir", "Directory of the daemon (default: $ISOLA_DIR or /var/lib/isola)", value="DIR", complete="paths"),
    Option("--project", "Project to work in", value="NAME", complete="projects"),
    Option("-q --quiet", "Print results only, no notices"),
    Option("--version", "Print the version of this command"),
)
