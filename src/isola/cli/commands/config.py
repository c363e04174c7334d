"""``isola config``: configuration of instances and of the daemon, and its trusted clients."""

from __future__ import annotations

from isola.cli.arguments import Arguments, UsageError
from isola.cli.devices import device_group
from isola.cli.grammar import Argument, Command, Group
from isola.cli.keys import KeyVerbs, key_commands
from isola.cli.trust import TRUST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation

_SERVER_KEYS = ("builds.", "core.", "docker.", "images.", "registry.", "security.", "user.")
"""A NAME with one of these prefixes is a key of the daemon's own configuration."""
_EXAMPLES = {
    "get": ("isola config get core.https_address", "the daemon's own key"),
    "set": ("isola config set core.https_address :8443", "the daemon serves its API over the network"),
    "unset": ("isola config unset core.https_address", "the daemon closes that port"),
    "show": ("isola config show", "the daemon's"),
    "edit": ("isola config edit", "the daemon's"),
}
_NAME = Argument("NAME", "The instance", complete="instances")
_FIELDS = ("architecture", "config", "description", "devices", "ephemeral", "profiles")


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    instance, slash, snapshot = name.partition("/")
    if slash:
        return context.client.instances.read_snapshot(instance, snapshot), ""
    return context.client.instances.read(name)


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    _refuse_snapshot(name)
    return context.client.instances.update(name, whole, etag=etag)


def _read_server(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    found, etag = context.client.server.read()
    return {"config": found.get("config") or {}}, etag


def _write_server(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    return context.client.server.update(whole, etag=etag)


_SERVER = KeyVerbs("NAME", "server", _read_server, _write_server, ("config",))


def _refuse_snapshot(name: str) -> None:
    if "/" in name:
        raise UsageError(
            f"An instance is expected, not {name!r}: snapshots cannot be changed",
            hint="isola snapshot expire sets when it is deleted",
        )


def _is_servers(name: str) -> bool:
    return not name or name.startswith(_SERVER_KEYS)


def _either(command: Command) -> Command:
    """A verb for an instance, or for the daemon if no instance is given."""
    of_server: Callable[[Context], int | None] = getattr(_SERVER, command.name)

    def run(context: Context) -> int | None:
        name = context.args.text("NAME")
        servers = _is_servers(name)
        if servers:
            context.args = _shifted(context.args, name)
        elif command.name not in ("get", "show"):
            _refuse_snapshot(name)
        for argument in command.arguments[1:]:
            if not (context.args.text(argument.name) or context.args.many(argument.name)):
                raise UsageError(f"{argument.name} is missing: {argument.help}", command=made)
        return of_server(context) if servers else command.run(context)

    arguments = [
        Argument(each.name, each.help, optional=True, many=each.many, complete=each.complete)
        for each in command.arguments
    ]
    arguments[0].help = "The instance; without it, or with a key of the daemon, the daemon itself"
    examples = (*command.examples, _EXAMPLES[command.name])
    made = Command(command.name, command.summary, run, *arguments, *command.options, examples=examples)
    return made


def _shifted(args: Arguments, first: str) -> Arguments:
    """Shift the arguments if no instance is given: the first one is the key."""
    return args.but({"NAME": "", "KEY": first, "KEY=VALUE": [*filter(None, [first]), *args.many("KEY=VALUE")]})


_VERBS = key_commands(
    "config",
    Argument("NAME", "The instance", complete="instances"),
    read=_read,
    write=_write,
    fields=("architecture", "config", "description", "devices", "ephemeral", "profiles"),
    sample="web1",
    example=("limits.memory", "512MiB"),
)
COMMANDS = (
    Group(
        "config",
        "Read and change the configuration of instances and of the daemon; limits apply at once",
        *(_either(command) for command in _VERBS),
        TRUST,
        device_group("config", _NAME, read=_read, write=_write, fields=_FIELDS, sample="web1", overrides=True),
    ),
)
