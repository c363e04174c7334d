"""Verbs common to networks, profiles, projects and storage pools."""

from __future__ import annotations

from isola.cli.arguments import pairs
from isola.cli.grammar import Argument, Command, Option
from isola.cli.keys import key_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.nouns import Nouns
    from isola.client.operations import Operation

    Make = Callable[[Context, str, dict[str, str], str], Operation]
    """Context, name, configuration and description -> the operation that creates it."""
    Examples = Iterable[tuple[str, str]]


class Noun:
    """``name`` on the command line, ``title`` in messages; ``sample`` (a name) and ``key`` (and value) for examples."""

    def __init__(
        self,
        name: str,
        title: str,
        of: Callable[[Context], Nouns[Any]],
        *,
        sample: str,
        key: tuple[str, str],
        complete: str = "",
        fields: tuple[str, ...] = ("config", "description"),
    ) -> None:
        self.name = name
        self.fields = fields
        self._title = title
        self._of = of
        self._sample = sample
        self._key = key
        self._complete = complete or f"{name}s"
        self.argument = Argument("NAME", f"The {title}", complete=self._complete)

    def all(self, context: Context) -> list[Any]:
        """All objects, sorted by name."""
        return sorted(self._of(context).all(), key=lambda each: str(each.get("name", "")))

    def read(self, context: Context, name: str) -> tuple[Mapping[str, Any], str]:
        """The object and its ETag."""
        return self._of(context).read(name)

    def write(self, context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
        """Replace the editable fields."""
        return self._of(context).update(name, whole, etag=etag)

    def keys(self) -> tuple[Command, ...]:
        """``get``, ``set``, ``unset``, ``show`` and ``edit``."""
        return key_commands(
            self.name, self.argument, read=self.read, write=self.write, fields=self.fields,
            sample=self._sample, example=self._key,
        )  # fmt: skip

    def creation(
        self,
        make: Make,
        *parameters: Argument | Option,
        keys: Argument,
        examples: Examples,
        details: str = "",
        after: Callable[[Context, str], str] = lambda context, name: "is created",
    ) -> Command:
        """``create NAME ... KEY=VALUE...``; ``after`` runs when it has succeeded, and returns the end of the notice."""

        def run(context: Context) -> None:
            name = context.args.text("NAME")
            config = pairs([*context.args.many("KEY=VALUE"), *context.args.many("config")], "create")
            operation = make(context, name, config, context.args.text("description"))
            context.follow(operation, f"Creating {name}")
            context.say(f"{self._title.capitalize()} {name} {after(context, name)}")

        arguments = [each for each in parameters if isinstance(each, Argument)]
        options = [each for each in parameters if isinstance(each, Option)]
        return Command(
            "create",
            f"Create a {self._title}",
            run,
            Argument("NAME", "Its name"),
            *arguments,
            keys,
            *options,
            Option("--description", "A description", value="TEXT"),
            examples=examples,
            details=details,
        )

    def renaming(self, summary: str, new: str) -> Command:
        """``rename NAME NEW``."""

        def run(context: Context) -> None:
            old, new = context.args.text("NAME"), context.args.text("NEW")
            context.follow(self._of(context).rename(old, new), f"Renaming {old}")
            context.say(f"{self._title.capitalize()} {old} is now {new}")

        return Command(
            "rename",
            summary,
            run,
            self.argument,
            Argument("NEW", "The new name"),
            aliases=("mv",),
            examples=((f"isola {self.name} rename {self._sample} {new}", f"{self._sample} becomes {new}"),),
        )

    def deletion(
        self,
        summary: str,
        why: str,
        *options: Option,
        before: Callable[[Context, str], None] = lambda context, name: None,
    ) -> Command:
        """``delete NAME...``: one failure does not stop the others. ``before`` is called before each deletion."""

        def run(context: Context) -> int:
            from isola.cli.commands.lifecycle import each

            def begin(name: str) -> Operation:
                before(context, name)
                return self._of(context).delete(name)

            return each(context, context.args.many("NAME"), begin, "Deleting", "is deleted", what=self._title)

        return Command(
            "delete",
            summary,
            run,
            Argument("NAME", "One or several", many=True, complete=self._complete),
            *options,
            aliases=("rm",),
            examples=((f"isola {self.name} delete {self._sample}", why),),
        )
