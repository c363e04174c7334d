"""``isola network``."""

from __future__ import annotations

from isola.cli.commands.lifecycle import each
from isola.cli.grammar import Argument, Command, Group, Option, UsageError, pairs
from isola.cli.keys import key_commands
from isola.cli.output import ALL_PROJECTS, FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation

_NAME = Argument("NAME", "The network", complete="networks")
_COLUMNS = (
    Column("NAME", "name"),
    Column("TYPE", "type"),
    Column("MANAGED", "managed"),
    Column("IPV4", lambda item: (item.get("config") or {}).get("ipv4.address", "")),
    Column("IPV6", lambda item: (item.get("config") or {}).get("ipv6.address", "")),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
    Column("STATUS", "status"),
    Column("DESCRIPTION", "description"),
)
_LEASES = (
    Column("HOSTNAME", "hostname"),
    Column("MAC ADDRESS", "hwaddr"),
    Column("IP ADDRESS", "address"),
    Column("TYPE", "type"),
)


def list_networks(context: Context) -> None:
    """Print the networks."""
    found = context.client.networks.all()
    if not context.args.flag("all"):
        found = [network for network in found if network.get("managed")]
    show(context, sorted(found, key=lambda network: network.get("name", "")), _COLUMNS)


def create(context: Context) -> None:
    """Create a network."""
    name = context.args.text("NAME")
    operation = context.client.networks.create(
        name,
        type=context.args.text("type") or "bridge",
        config=pairs(context.args.many("KEY=VALUE"), "create"),
        description=context.args.text("description"),
    )
    context.follow(operation, f"Creating network {name}")
    context.say(f"Network {name} is created")


def rename(context: Context) -> None:
    """Give a network another name."""
    old, new = context.args.text("NAME"), context.args.text("NEW")
    context.follow(context.client.networks.rename(old, new), f"Renaming {old}")


def delete(context: Context) -> int:
    """Delete networks."""
    return each(context, context.args.many("NAME"), context.client.networks.delete, "Deleting", "is deleted")


def leases(context: Context) -> None:
    """Print the addresses in use."""
    show(context, context.client.networks.leases(context.args.text("NAME")), _LEASES)


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    return context.client.networks.read(name)


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    config = whole.get("config")
    if not isinstance(config, dict):
        raise UsageError("config must be a mapping of keys to values")
    return context.client.networks.update(name, config, str(whole.get("description") or ""), etag=etag)


COMMANDS = (
    Group(
        "network",
        "Networks that instances are connected to",
        Command(
            "list",
            "List networks",
            list_networks,
            ALL_PROJECTS,
            Option("-a --all", "Also the host's own links"),
            FORMAT,
            aliases=("ls",),
            examples=(("isola network list", "the networks of the daemon"),),
        ),
        Command(
            "create",
            "Create a network",
            create,
            Argument("NAME", "Its name"),
            Argument("KEY=VALUE", "Configuration; missing addresses are chosen", many=True, optional=True),
            Option("-t --type", "The driver", value="TYPE", default="bridge"),
            Option("--description", "A description", value="TEXT"),
            examples=(
                ("isola network create lab", "with chosen addresses"),
                ("isola network create lab ipv4.address=10.9.8.1/24 ipv6.address=none", "with these addresses"),
            ),
        ),
        *key_commands(
            "network", _NAME, read=_read, write=_write, fields=("config", "description"), example=("ipv4.nat", "false")
        ),
        Command(
            "leases",
            "List the addresses in use",
            leases,
            _NAME,
            FORMAT,
            examples=(("isola network leases isolabr0", "addresses with their instances"),),
        ),
        Command(
            "rename",
            "Rename a network that is not in use",
            rename,
            _NAME,
            Argument("NEW", "The new name"),
            examples=(("isola network rename lab lab2", "lab becomes lab2"),),
        ),
        Command(
            "delete",
            "Delete networks",
            delete,
            Argument("NAME", "One or several", many=True, complete="networks"),
            aliases=("rm",),
            examples=(("isola network delete lab", "delete the network with its bridge"),),
        ),
    ),
)
