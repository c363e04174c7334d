"""``isola profile``."""

from __future__ import annotations

from isola.cli.devices import device_group
from isola.cli.grammar import Argument, Command, Group, Option, pairs
from isola.cli.keys import key_commands
from isola.cli.output import ALL_PROJECTS, FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation

_NAME = Argument("NAME", "The profile", complete="profiles")
_COLUMNS = (
    Column("NAME", "name"),
    Column("DESCRIPTION", "description"),
    Column("DEVICES", lambda item: ", ".join(sorted(item.get("devices") or ()))),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
)


def list_profiles(context: Context) -> None:
    """Print the profiles."""
    found = context.client.profiles.all()
    show(context, sorted(found, key=lambda profile: profile.get("name", "")), _COLUMNS)


def create(context: Context) -> None:
    """Create a profile."""
    name = context.args.text("NAME")
    config = pairs(context.args.many("KEY=VALUE"), "create")
    context.client.profiles.create(name, {"config": config, "description": context.args.text("description")})
    context.say(f"Profile {name} is created")


def rename(context: Context) -> None:
    """Give a profile another name."""
    context.client.profiles.rename(context.args.text("NAME"), context.args.text("NEW"))


def delete(context: Context) -> None:
    """Delete profiles."""
    for name in context.args.many("NAME"):
        context.client.profiles.delete(name)
        context.say(f"Profile {name} is deleted")


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    return context.client.profiles.read(name)


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    return context.client.profiles.update(name, whole, etag=etag)


COMMANDS = (
    Group(
        "profile",
        "Configuration and devices shared by instances",
        Command(
            "list",
            "List profiles",
            list_profiles,
            ALL_PROJECTS,
            FORMAT,
            aliases=("ls",),
            examples=(("isola profile list", "all profiles"),),
        ),
        Command(
            "create",
            "Create a profile",
            create,
            Argument("NAME", "Its name"),
            Argument("KEY=VALUE", "Configuration", many=True, optional=True, complete="instance-keys"),
            Option("--description", "A description", value="TEXT"),
            examples=(
                ("isola profile create small limits.memory=256MiB limits.cpu=1", "limits for several instances"),
            ),
        ),
        *key_commands(
            "profile",
            _NAME,
            read=_read,
            write=_write,
            fields=("config", "description", "devices"),
            example=("limits.memory", "256MiB"),
        ),
        device_group("profile", _NAME, read=_read, write=_write, fields=("config", "description", "devices")),
        Command(
            "rename",
            "Rename a profile",
            rename,
            _NAME,
            Argument("NEW", "The new name"),
            examples=(("isola profile rename small tiny", "small becomes tiny"),),
        ),
        Command(
            "delete",
            "Delete profiles",
            delete,
            Argument("NAME", "One or several", many=True, complete="profiles"),
            aliases=("rm",),
            examples=(("isola profile delete small", "an unused one"),),
        ),
    ),
)
