"""Parses argv into a command's arguments."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.elsewhere import KEY, is_place
from isola.cli.grammar import GLOBAL_OPTIONS, Argument, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from isola.cli.arguments import Value


def split_globals(arguments: Sequence[str], options: Iterable[Option] = ()) -> tuple[dict[str, Value], list[str]]:
    """The global options before the verb, and ``options`` of its noun; and the remaining arguments."""
    reader = _Reader((*options, *GLOBAL_OPTIONS), arguments, None)
    while reader.arguments and reader.at_option():
        reader.take_option()
    return reader.values, reader.arguments


def joined(values: dict[str, Value], more: dict[str, Value]) -> dict[str, Value]:
    """Both; of options that may be repeated all values."""
    found = {**values, **more}
    for key, value in more.items():
        before = values.get(key)
        if isinstance(value, list) and isinstance(before, list):
            found[key] = [*before, *value]
    return found


def parse(command: Command, arguments: Sequence[str]) -> dict[str, Value]:
    """The values of a command's arguments and options. Raises UsageError.

    Options may appear anywhere before ``--``; for a verb that takes a command (``exec``), only before the command.
    """
    reader = _Reader((*command.options, *GLOBAL_OPTIONS), arguments, command)
    takes_rest = bool(command.arguments) and command.arguments[-1].rest
    found: list[str] = []
    while reader.arguments:
        if reader.arguments[0] == "--":
            found += reader.arguments[1:]
            break
        if reader.at_option():
            reader.take_option()
        elif takes_rest and len(found) >= len(command.arguments) - 1:
            found += reader.arguments
            break
        else:
            found.append(reader.arguments.pop(0))
    if not reader.values.get("help"):
        ours = len(command.arguments) - 1 if takes_rest else len(found)
        for place in [each for each in found[:ours] if is_place(each)]:
            found.remove(place)
            reader.values[KEY] = place[:-1]
        _assign(command, found, reader.values)
    return reader.values


def _assign(command: Command, found: list[str], values: dict[str, Value]) -> None:
    for argument in command.arguments:
        if argument.divides and found:
            found = _divided(found)
        if argument.many:
            if not found and not argument.optional:
                raise _missing(command, argument)
            values[argument.name], found = _all_joined(argument, found), []
        elif found:
            values[argument.name] = _joined(argument, found)
        elif not argument.optional:
            raise _missing(command, argument)
    if found:
        raise UsageError(f"Unexpected argument {found[0]!r}", hint=f"usage: {command.usage}", command=command)


def _joined(argument: Argument, found: list[str]) -> str:
    """Join ``default data`` to ``default/data``, for arguments of several parts."""
    name = found.pop(0)
    while found and name.count("/") < argument.parts - 1:
        name += "/" + found.pop(0)
    return name


def _divided(found: list[str]) -> list[str]:
    """Split ``web1/snap0 web1/snap1`` into ``web1 snap0 snap1``."""
    outer, slash, inner = found[0].partition("/")
    if not slash or not outer or not inner:
        return found
    return [outer, inner, *(name.removeprefix(f"{outer}/") for name in found[1:])]


def _all_joined(argument: Argument, found: list[str]) -> list[str]:
    if argument.parts == 1 or not found:
        return found
    first = _joined(argument, found)
    outer = first.rpartition("/")[0]
    return [first, *(f"{outer}/{name}" if "/" not in name else name for name in found)]


def _missing(command: Command, argument: Argument) -> UsageError:
    return UsageError(f"{argument.name} is missing: {argument.help}", hint=f"usage: {command.usage}", command=command)


class _Reader:
    """Takes options off the front of the arguments."""

    def __init__(self, options: Iterable[Option], arguments: Sequence[str], command: Command | None) -> None:
        self.arguments = list(arguments)
        self.values: dict[str, Value] = {}
        self._command = command
        self._options: dict[str, Option] = {}
        for option in options:
            for name in (*option.names, *option.also):
                self._options.setdefault(name, option)

    def at_option(self) -> bool:
        """Whether an option comes next; ``-`` alone is a positional argument."""
        return self.arguments[0].startswith("-") and self.arguments[0] != "-"

    def take_option(self) -> None:
        """Take one option with its value."""
        text = self.arguments.pop(0)
        if text.startswith("--"):
            name, equals, value = text.partition("=")
            self._store(name, value if equals else None)
            return
        for position in range(1, len(text)):
            option = self._find("-" + text[position])
            if option.value:
                rest = text[position + 1 :].removeprefix("=")
                self._store(option.names[0], rest or None)
                return
            self._store(option.names[0], None)

    def _find(self, name: str) -> Option:
        option = self._options.get(name)
        if option is None:
            raise self._error(f"Unknown option {name}", near(name, self._options))
        return option

    def _store(self, name: str, value: str | None) -> None:
        option = self._find(name)
        if not option.value:
            if value is not None:
                raise self._error(f"{name} takes no value", "")
            self.values[option.key] = True
            return
        if value is None:
            if not self.arguments:
                raise self._error(f"{name} needs a value: {option.value}", "")
            value = self.arguments.pop(0)
        if option.choices and value not in option.choices:
            raise self._error(f"{name} takes one of {', '.join(option.choices)}, not {value!r}", "")
        if option.repeat:
            known = self.values.setdefault(option.key, [])
            assert isinstance(known, list)
            known.append(value)
        else:
            self.values[option.key] = value

    def _error(self, message: str, hint: str) -> UsageError:
        return UsageError(message, hint=hint, command=self._command)


def near(name: str, known: Iterable[str]) -> str:
    """A hint with the most similar known name; empty if there is none."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""
