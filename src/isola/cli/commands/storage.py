"""``isola storage``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Group
from isola.cli.noun import Noun
from isola.cli.output import DOCUMENT_FORMAT, FORMAT, Column, document, show, users_of
from isola.cli.volume import GROUP as VOLUMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.operations import Operation

_NOUN = Noun(
    "storage",
    "storage pool",
    lambda context: context.client.storage,
    sample="fast",
    key=("user.purpose", "fast"),
    complete="pools",
)
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
    show(context, _NOUN.all(context), _COLUMNS)


def info(context: Context) -> None:
    """Print a pool's space and users."""
    from isola.model.units import format_size

    name = context.args.text("NAME")
    pool, space = context.client.storage.get(name), context.client.storage.space(name)
    if context.args.text("format") == "json":
        return document(context, {**pool, **space})
    used, total = (int((space.get("space") or {}).get(key) or 0) for key in ("used", "total"))
    shown: dict[str, object] = {"name": name, "driver": pool.get("driver"), "description": pool.get("description")}
    shown |= {"used": format_size(used), "total": format_size(total)}
    if total:
        shown["share"] = f"{used / total:.0%}"
    shown["used by"] = users_of(pool)
    document(context, {key: value for key, value in shown.items() if value})


def create(context: Context, name: str, config: dict[str, str], description: str) -> Operation:
    """Create a pool."""
    return context.client.storage.create(name, context.args.text("DRIVER"), config, description)


def volumes(context: Context) -> None:
    """Print the volumes of a pool."""
    show(context, context.client.storage.volumes(context.args.text("NAME")), _VOLUMES)


COMMANDS = (
    Group(
        "storage",
        "Storage pools, which contain the volumes of instances",
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
            _NOUN.argument,
            DOCUMENT_FORMAT,
            examples=(("isola storage info default", "its size and usage"),),
        ),
        _NOUN.creation(
            create,
            Argument("DRIVER", "Its driver: btrfs, dir, or overlay"),
            keys=Argument("KEY=VALUE", "Configuration", many=True, optional=True, complete="storage-keys"),
            examples=(
                ("isola storage create fast overlay source=/srv/fast", "on another disk"),
                ("isola storage create small btrfs size=20GiB", "in a file of that size"),
            ),
        ),
        *_NOUN.keys(),
        Command(
            "volumes",
            "List the volumes in a pool",
            volumes,
            _NOUN.argument,
            FORMAT,
            examples=(("isola storage volumes default", "root volumes of instances, and custom volumes"),),
        ),
        _NOUN.deletion("Delete storage pools", "remove an unused pool"),
        VOLUMES,
    ),
)
