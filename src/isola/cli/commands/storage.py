"""``isola storage``."""

from __future__ import annotations

from isola.cli.commands.lifecycle import each
from isola.cli.grammar import Argument, Command, Group, Option, UsageError, pairs
from isola.cli.keys import key_commands
from isola.cli.output import FORMAT, Column, document, show
from isola.cli.volume import GROUP as VOLUMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation

_NAME = Argument("NAME", "The storage pool", complete="pools")
_COLUMNS = (
    Column("NAME", "name"),
    Column("DRIVER", "driver"),
    Column("SOURCE", lambda item: (item.get("config") or {}).get("source", "")),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
    Column("STATUS", "status"),
    Column("DESCRIPTION", "description"),
)
_VOLUMES = (
    Column("TYPE", "type"),
    Column("NAME", "name"),
    Column("CONTENT", "content_type"),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
)


def list_pools(context: Context) -> None:
    """Print the pools."""
    found = context.client.storage.all()
    show(context, sorted(found, key=lambda pool: pool.get("name", "")), _COLUMNS)


def info(context: Context) -> None:
    """Print a pool's space and users."""
    from isola.model.units import format_size

    name = context.args.text("NAME")
    pool, space = context.client.storage.get(name), context.client.storage.space(name)
    used, total = (int((space.get("space") or {}).get(key) or 0) for key in ("used", "total"))
    shown: dict[str, object] = {"name": name, "driver": pool.get("driver"), "description": pool.get("description")}
    shown |= {"used": format_size(used), "total": format_size(total)}
    if total:
        shown["share"] = f"{used / total:.0%}"
    shown["used by"] = list(pool.get("used_by") or ())
    document(context, {key: value for key, value in shown.items() if value})


def create(context: Context) -> None:
    """Create a pool."""
    name = context.args.text("NAME")
    config = pairs(context.args.many("KEY=VALUE"), "create")
    description = context.args.text("description")
    context.follow(
        context.client.storage.create(name, context.args.text("DRIVER"), config, description), f"Creating {name}"
    )
    context.say(f"Storage pool {name} is created")


def delete(context: Context) -> int:
    """Delete pools."""
    return each(context, context.args.many("NAME"), context.client.storage.delete, "Deleting", "is deleted")


def volumes(context: Context) -> None:
    """Print the volumes of a pool."""
    show(context, context.client.storage.volumes(context.args.text("NAME")), _VOLUMES)


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    return context.client.storage.read(name)


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    config = whole.get("config")
    if not isinstance(config, dict):
        raise UsageError("config must be a mapping of keys to values")
    return context.client.storage.update(name, config, str(whole.get("description") or ""), etag=etag)


COMMANDS = (
    Group(
        "storage",
        "Storage pools, which hold the volumes of instances",
        Command(
            "list",
            "List storage pools",
            list_pools,
            FORMAT,
            aliases=("ls",),
            examples=(("isola storage list", "all pools"),),
        ),
        Command(
            "info",
            "Show a pool's space and users",
            info,
            _NAME,
            examples=(("isola storage info default", "how full it is"),),
        ),
        Command(
            "create",
            "Create a storage pool",
            create,
            Argument("NAME", "Its name"),
            Argument("DRIVER", "Its driver, e.g. overlay"),
            Argument("KEY=VALUE", "Configuration", many=True, optional=True),
            Option("--description", "A description", value="TEXT"),
            examples=(("isola storage create fast overlay source=/srv/fast", "on another disk"),),
        ),
        *key_commands(
            "storage",
            _NAME,
            read=_read,
            write=_write,
            fields=("config", "description"),
            example=("user.purpose", "fast"),
        ),
        Command(
            "volumes",
            "List the volumes in a pool",
            volumes,
            _NAME,
            FORMAT,
            examples=(("isola storage volumes default", "root volumes of instances, and custom volumes"),),
        ),
        Command(
            "delete",
            "Delete storage pools",
            delete,
            Argument("NAME", "One or several", many=True, complete="pools"),
            aliases=("rm",),
            examples=(("isola storage delete fast", "remove an unused pool"),),
        ),
        VOLUMES,
    ),
)
