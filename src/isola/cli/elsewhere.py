"""Selects the daemon of a command line: ``NAME:`` before another name, or alone, names a remote."""

from __future__ import annotations

from isola.cli.arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.cli.arguments import Value
    from isola.cli.grammar import Argument, Command
    from isola.client.remotes import Remotes

KEY = "remote"
"""The key under which the parser stores a ``NAME:`` that was given alone."""
_NAMES = ("instances", "sources", "networks", "pools", "profiles", "operations", "volumes", "projects", "certificates")
"""Kinds whose names have no colon, so that the part before a colon is a remote."""
_MAYBE = ("images", "files", "paths-or-files")
"""Kinds whose names may have a colon; the part before it is a remote if one has that name."""


def is_place(text: str) -> bool:
    """Whether the argument is only the name of a remote: ``far:``."""
    return (
        len(text) > 1 and text.endswith(":") and text[:-1].replace("-", "").replace("_", "").replace(".", "").isalnum()
    )


def parted(kind: str, text: str) -> tuple[str, str]:
    """Split ``far:we`` into ``far:`` and ``we``, for kinds of names that may be on a remote."""
    head, colon, rest = text.partition(":")
    return (head + colon, rest) if colon and kind in (*_NAMES, *_MAYBE) and "/" not in head else ("", text)


def choose(command: Command, values: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """The named remote, or empty, and the values without its name. Raises UsageError."""
    finder = _Finder()
    kept = dict(values)
    if place := kept.pop(KEY, None):
        finder.choose(str(place))
    for argument in command.arguments:
        value = kept.get(argument.name)
        if isinstance(value, str):
            kept[argument.name] = finder.without(argument, value)
        elif isinstance(value, list) and not argument.rest:
            kept[argument.name] = [finder.without(argument, each) for each in value]
    return finder.chosen, kept


class _Finder:
    def __init__(self) -> None:
        self.chosen = ""
        self._remotes: Remotes | None = None

    @property
    def remotes(self) -> Remotes:
        """Read on first use."""
        if self._remotes is None:
            from isola.client.remotes import Remotes

            self._remotes = Remotes()
        return self._remotes

    def without(self, argument: Argument, text: str) -> str:
        """The name without its remote, which is recorded."""
        head, colon, rest = text.partition(":")
        if not colon or not head or not self._names_a_remote(argument, head):
            return text
        self.choose(head)
        return rest

    def choose(self, name: str) -> None:
        """Record the named remote. Raises UsageError for a second or an unknown one."""
        if name not in self.remotes.names():
            raise UsageError(f"There is no remote {name!r}", hint=f"remotes: {', '.join(self.remotes.names())}")
        if self.chosen not in ("", name):
            raise UsageError(f"Both remotes {self.chosen} and {name} are named", hint="one command works on one daemon")
        self.chosen = name

    def _names_a_remote(self, argument: Argument, head: str) -> bool:
        if "=" in head or "/" in head:
            return False
        if argument.complete in _NAMES or (not argument.complete and argument.name == "NAME"):
            return True
        return argument.complete in _MAYBE and head in self.remotes.names()
