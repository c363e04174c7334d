"""Which file under ``commands`` defines which verb, so that a verb imports only its own file."""

from __future__ import annotations

from isola.cli.grammar import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.grammar import Command

CHAPTERS: Mapping[str, Mapping[str, str]] = {
    "Instances": {
        "launch": "create",
        "run": "run",
        "create": "create",
        "list": "list",
        "info": "info",
        "exec": "exec",
        "shell": "exec",
        "console": "console",
        "logs": "logs",
        "top": "top",
        "stats": "top",
        "wait": "logs",
        "start": "lifecycle",
        "stop": "lifecycle",
        "restart": "lifecycle",
        "pause": "lifecycle",
        "resume": "lifecycle",
        "rename": "lifecycle",
        "delete": "lifecycle",
        "copy": "copy",
        "move": "copy",
        "snapshot": "snapshot",
        "publish": "publish",
        "deploy": "deploy",
        "rollback": "deploy",
        "versions": "versions",
        "config": "config",
        "file": "file",
    },
    "Resources of instances": {
        "image": "image",
        "build": "build",
        "network": "network",
        "storage": "storage",
        "profile": "profile",
        "project": "project",
        "compose": "compose",
        "registry": "registry",
    },
    "The daemon": {
        "remote": "remote",
        "operation": "operation",
        "warning": "warning",
        "monitor": "monitor",
        "admin": "admin",
        "doctor": "doctor",
        "query": "query",
        "version": "version",
        "completion": "completion",
    },
}
ALIASES = {
    "ls": "list", "ps": "list", "init": "create", "rm": "delete", "mv": "move", "sh": "shell",
    "cp": "copy", "commit": "publish", "freeze": "pause", "unfreeze": "resume",
}  # fmt: skip
FOREIGN = {"restore": ("snapshot", "restore")}
"""Verbs of LXD's clients -> the equivalent noun and verb."""
HIDDEN = {"__complete": "completion"}


def names() -> list[str]:
    """All verbs in the order of the chapters."""
    return [name for chapter in CHAPTERS.values() for name in chapter]


def find(name: str) -> Command | Group | None:
    """The verb or noun of that name; imports its file."""
    name = ALIASES.get(name, name)
    if name in FOREIGN:
        noun, verb = FOREIGN[name]
        group = find(noun)
        return group.find(verb) if isinstance(group, Group) else None
    for chapter in (*CHAPTERS.values(), HIDDEN):
        if name in chapter:
            commands = _module(chapter[name]).COMMANDS
            return next((command for command in commands if command.name == name), None)
    return None


def _module(name: str) -> Any:
    """A file of ``commands``. ``importlib.import_module`` does the same, but takes 0.4 ms to import."""
    return __import__(f"isola.cli.commands.{name}", fromlist=["COMMANDS"])
