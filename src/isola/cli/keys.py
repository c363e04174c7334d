"""``get``, ``set``, ``unset``, ``show`` and ``edit`` for all nouns with configuration keys."""

from __future__ import annotations

import posix
import sys

from isola.cli.arguments import UsageError, pairs
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import DOCUMENT_FORMAT, document
from isola.environment import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation

    Read = Callable[[Context, str], tuple[Mapping[str, Any], str]]
    """Name -> the object and its ETag."""
    Write = Callable[[Context, str, Mapping[str, Any], str], Operation]
    """Name, the new object, and the ETag of the version it is based on."""

_PROPERTIES = ("description",)


def key_commands(
    noun: str,
    name: Argument,
    *,
    read: Read,
    write: Write,
    fields: tuple[str, ...],
    sample: str,
    example: tuple[str, str],
) -> tuple[Command, ...]:
    """The five verbs for one noun. ``fields`` are those that may be edited.

    ``sample`` is a name and ``example`` a key with a value, for examples.
    """
    key, value = example
    owner = {"storage volume": "volume"}.get(
        noun, noun if noun in ("network", "storage", "server", "project") else "instance"
    )
    verbs = KeyVerbs(name.name, owner, read, write, fields)

    def typed(verb: str, rest: str = "") -> str:
        return f"isola {noun} {verb} {sample} {rest}".rstrip()

    known, several = _key_arguments(owner, verbs.properties)
    expanded = Option("-e --expanded", "Include the configuration of profiles")
    editing = "Edit it as YAML, in $EDITOR or from standard input"
    set_one = ((typed("set", f"{key}={value}"), "one key"), (typed("set", f"{key} {value}"), "the same"))
    shown = ((typed("show"), "as YAML"), (typed("show", "-f json"), "as JSON"))
    edited = ((typed("edit"), "in your editor"), (typed("edit", "< new.yaml"), "from a file"))
    return (
        Command("get", "Print one key", verbs.get, name, known, examples=((typed("get", key), "its value"),)),
        Command("set", "Set keys", verbs.set, name, several, examples=set_one),
        Command(
            "unset", "Unset a key", verbs.unset, name, known, examples=((typed("unset", key), "back to the default"),)
        ),
        Command("show", "Show all fields", verbs.show, name, DOCUMENT_FORMAT, expanded, examples=shown),
        Command("edit", editing, verbs.edit, name, examples=edited),
    )


def _key_arguments(owner: str, properties: tuple[str, ...]) -> tuple[Argument, Argument]:
    """For one key, and for several with values."""
    also = " or ".join(properties)
    kind = f"{owner}-keys"
    known = Argument("KEY", f"The configuration key, or {also}" if also else "The configuration key", complete=kind)
    text = f"One or several; KEY may be {also}, too" if also else "One or several"
    return known, Argument("KEY=VALUE", text, many=True, complete=kind)


class KeyVerbs:
    """The five verbs for one noun."""

    def __init__(self, argument: str, owner: str, read: Read, write: Write, fields: tuple[str, ...]) -> None:
        self._argument = argument
        self._owner = owner
        self._read = read
        self._write = write
        self._fields = fields
        self.properties = tuple(field for field in fields if field in _PROPERTIES)
        """Fields that are set like keys; no key has the same name."""

    def get(self, context: Context) -> int:
        """Print one key."""
        found, _ = self._read(context, context.args.text(self._argument))
        key = context.args.text("KEY")
        value = found.get(key) if key in self.properties else (found.get("config") or {}).get(key)
        if value is None:
            value = (found.get("expanded_config") or {}).get(key)
        if value is None:
            self._require_known(context, key)
        context.write("" if value is None else str(value))
        return 0

    def set(self, context: Context) -> None:
        given = context.args.many("KEY=VALUE")
        if len(given) == 2 and "=" not in given[0]:
            given = [f"{given[0]}={given[1]}"]
        self._change(context, pairs(given, "set"))

    def unset(self, context: Context) -> None:
        self._change(context, {context.args.text("KEY"): None})

    def _require_known(self, context: Context, key: str) -> None:
        """Raise UsageError for a key that does not exist; known keys that are not set are accepted."""
        known = context.client.server.keys(self._owner)
        if not any(key == name or (name.endswith(".*") and key.startswith(name[:-1])) for name in known):
            from isola.cli.parsing import near

            raise UsageError(f"Unknown {self._owner} key {key!r}", hint=near(key, known) or "")

    def show(self, context: Context) -> None:
        """Print all fields."""
        found = dict(self._read(context, context.args.text(self._argument))[0])
        if context.args.flag("expanded"):
            for part in ("config", "devices"):
                found[part] = found.get(f"expanded_{part}", found.get(part))
        shown = {key: value for key, value in found.items() if not key.startswith("expanded_")}
        document(context, shown, context.args.text("format") or "yaml")

    def edit(self, context: Context) -> None:
        """Edit it as YAML."""
        name = context.args.text(self._argument)
        found, etag = self._read(context, name)
        changed = changed_by_user(context, found, self._fields, name)
        if changed is not None:
            context.follow(self._write(context, name, changed, etag), f"Updating {name}")

    def _change(self, context: Context, changes: Mapping[str, str | None]) -> None:
        name = context.args.text(self._argument)
        found, etag = self._read(context, name)
        whole = {field: found.get(field) for field in self._fields}
        whole["config"] = config = dict(found.get("config") or {})
        for key, value in changes.items():
            if key in self.properties:
                whole[key] = value or ""
            elif value is None:
                if config.pop(key, None) is None:
                    self._require_known(context, key)
            else:
                config[key] = value
        context.follow(self._write(context, name, whole, etag), f"Updating {name}")


def _texts(value: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration values as strings, since YAML parses some as numbers or booleans."""
    result: dict[str, Any] = {key: item or "" if key in _PROPERTIES else item for key, item in value.items()}
    if isinstance(result.get("config"), dict):
        result["config"] = {str(key): _text(item) for key, item in result["config"].items()}
    if isinstance(result.get("devices"), dict):
        result["devices"] = {
            str(name): {str(key): _text(item) for key, item in device.items()} if isinstance(device, dict) else device
            for name, device in result["devices"].items()
        }
    return result


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def changed_by_user(
    context: Context, found: Mapping[str, Any], fields: tuple[str, ...], name: str
) -> dict[str, Any] | None:
    """The fields as edited by the user or read from standard input; None if they are unchanged."""
    from isola.cli.yaml import dump, load

    before = dump({field: found.get(field) for field in fields})
    after = edited(before, name) if posix.isatty(0) else sys.stdin.read()
    if after == before:
        context.say("Nothing has changed")
        return None
    changed = load(after)
    if not isinstance(changed, dict):
        raise UsageError("The document must be a mapping like the output of 'show'")
    kept = {field: found.get(field) for field in fields}
    kept.update({key: value for key, value in changed.items() if key in fields})
    if not isinstance(kept.get("config", {}), dict):
        raise UsageError("config must be a mapping of keys to values")
    return _texts(kept)


def edited(text: str, name: str) -> str:
    """The text as edited in the user's editor."""
    import os
    import shlex
    import tempfile

    editor = shlex.split(variable("VISUAL") or variable("EDITOR") or "") or [_default_editor()]
    with tempfile.NamedTemporaryFile("w+", prefix="isola-", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        status = os.spawnvp(os.P_WAIT, editor[0], [*editor, file.name])
        if status:
            raise UsageError(f"{editor[0]} ended with status {status}", hint="set EDITOR to the editor to use")
        with open(file.name, encoding="utf-8") as result:  # editors may have replaced the file
            return result.read()


def _default_editor() -> str:
    import shutil

    return next((name for name in ("editor", "nano", "vim", "vi") if shutil.which(name)), "vi")
