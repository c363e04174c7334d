"""``isola admin``."""

from __future__ import annotations

import os

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.admin import UnknownInfo

_ORDER = ("storage-pool", "network", "instance", "file", "image-content")
_COLUMNS = (
    Column("TYPE", "type"),
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("POOL", "pool"),
    Column("RUNNING", "running"),
    Column("ADOPTABLE", "adoptable"),
)


def backup_state(context: Context) -> None:
    """Write a copy of the daemon's database to a file."""
    import datetime

    now = datetime.datetime.now()
    path = context.args.text("FILE") or f"isola-state-{now:%Y%m%d-%H%M%S}.db"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            for piece in context.client.admin.state():
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(path)
        raise
    context.say(f"Written to {path}; restore it with 'isolad --recover {path}'")


def list_unknown(context: Context) -> None:
    """Print objects that are on the host but not in the daemon's database."""
    show(context, _sorted(context), _COLUMNS)


def adopt(context: Context) -> None:
    """Add unknown objects to the database again, from the metadata stored with them."""
    everything, names, name = context.args.flag("all"), context.args.many("THING"), context.args.text("name")
    if everything == bool(names):
        raise UsageError("Name what to adopt, or use --all")
    if name and len(names) != 1:
        raise UsageError("--name renames one instance, and several were named")
    missing = set(names)
    _require_one(_sorted(context), names)
    for kind in _ORDER:  # the volumes of a pool are listed once the pool itself is known
        for item in _sorted(context):
            if item["type"] == kind and (item["adoptable"] if everything else _names(item) & set(names)):
                _follow(context, "adopt", item, name)
                missing -= _names(item)
    _complain(missing)


def remove_unknown(context: Context) -> None:
    """Remove unknown objects with all their data."""
    names = context.args.many("THING")
    missing = set(names)
    items = _sorted(context)
    _require_one(items, names)
    for item in reversed(items):
        if _names(item) & set(names):
            _follow(context, "remove", item)
            missing -= _names(item)
    _complain(missing)


def _follow(context: Context, action: str, item: UnknownInfo, name: str = "") -> None:
    admin = context.client.admin
    shown = item["name"] or item["id"]
    if action == "adopt":
        context.follow(admin.adopt(item["type"], _key(item), name), f"Adopting {shown}")
    else:
        context.follow(admin.remove(item["type"], _key(item)), f"Removing {shown}")
    context.say(f"{item['type']} {shown} is {'adopted' if action == 'adopt' else 'removed'}")


def _complain(missing: set[str]) -> None:
    if missing:
        from isola.errors import NotFound

        raise NotFound(
            f"There is nothing unknown called {min(missing)!r}", remedy="list what is unknown: isola admin unknown"
        )


def _names(item: UnknownInfo) -> set[str]:
    return {item["id"], _key(item), item["name"]} - {""}


def _key(item: UnknownInfo) -> str:
    """``POOL/ID`` of an instance, whose id may be in several pools."""
    pool = item.get("pool") if item["type"] == "instance" else ""
    return f"{pool}/{item['id']}" if pool else item["id"]


def _require_one(items: list[UnknownInfo], names: list[str]) -> None:
    for name in names:
        found = [item for item in items if name in _names(item) and item["type"] == "instance"]
        if len(found) > 1:
            raise UsageError(f"Several are called {name!r}", hint=f"use one of {', '.join(map(_key, found))}")


def _sorted(context: Context) -> list[UnknownInfo]:
    return sorted(context.client.admin.unknown(), key=lambda item: (_ORDER.index(item["type"]), item["id"]))


COMMANDS = (
    Group(
        "admin",
        "Back up the daemon's database; adopt or remove objects that are not in it",
        Command(
            "backup-state",
            "Write a consistent copy of the daemon's database to a file",
            backup_state,
            Argument(
                "FILE",
                "The file to create (default: in this directory, named after the time)",
                optional=True,
                complete="paths",
            ),
            examples=(("isola admin backup-state /srv/backup/isola.db", "isolad --recover restores it"),),
        ),
        Command(
            "unknown",
            "List objects that are on the host but not in the daemon's database",
            list_unknown,
            FORMAT,
            examples=(("isola admin unknown", "after the database was lost or restored"),),
        ),
        Command(
            "adopt",
            "Add unknown instances, pools, networks and volumes to the database again",
            adopt,
            Argument("THING", "Id, POOL/ID or name, as listed by 'unknown'", optional=True, many=True),
            Option("--all", "Everything that can be adopted"),
            Option("--name", "Another name for the instance", value="NAME"),
            examples=(
                ("isola admin adopt --all", "running instances keep running"),
                ("isola admin adopt 3f2a91c07be4d512 --name web2", "under another name, if its own is in use"),
            ),
        ),
        Command(
            "remove-unknown",
            "Remove unknown objects with all their data",
            remove_unknown,
            Argument("THING", "Id, POOL/ID or name, as listed by 'unknown'", many=True),
            examples=(("isola admin remove-unknown 3f2a91c07be4d512", "ends its processes and deletes its volume"),),
        ),
    ),
)
