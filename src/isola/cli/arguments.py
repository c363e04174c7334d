"""The parsed command line, and the error for a wrong one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    Value = str | bool | list[str]

    class Described(Protocol):
        """A command or a noun."""

        path: str
        """As typed after ``isola``."""


class UsageError(Exception):
    """The command line is wrong. ``command``: the one to show help of; ``hint``: what to do."""

    def __init__(self, message: str, *, hint: str = "", command: Described | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.command = command


class Arguments:
    """The parsed command line: values by name."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def but(self, other: Mapping[str, Value]) -> Arguments:
        """A copy with some values replaced."""
        return Arguments({**self._values, **other})

    def text(self, name: str) -> str:
        """A single value; empty if it was not given."""
        value = self._values.get(name, "")
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return bool(self._values.get(name))

    def many(self, name: str) -> list[str]:
        """All values, in order."""
        value = self._values.get(name, [])
        return value if isinstance(value, list) else []

    def given(self, name: str) -> bool:
        """Whether it was on the command line."""
        return name in self._values

    def number(self, name: str, default: int | None = None, *, base: int = 10) -> int | None:
        """An integer. Raises UsageError with the option's name."""
        text = self.text(name)
        if not text:
            return default
        try:
            return int(text, base)
        except ValueError:
            kind = "an octal number such as 0644" if base == 8 else "a whole number"
            raise UsageError(f"--{name} must be {kind}, not {text!r}") from None

    def pairs(self, name: str) -> dict[str, str]:
        """``key=value`` items. Raises UsageError for an item without ``=``."""
        return pairs(self.many(name), name)


def pairs(items: Iterable[str], name: str) -> dict[str, str]:
    """``key=value`` items as a dictionary. Raises UsageError for an item without ``=``."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{name} takes KEY=VALUE, not {item!r}", hint="for example user.purpose=web")
        found[key] = value
    return found
