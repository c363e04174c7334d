"""``isola admin``."""

from __future__ import annotations

import os

from isola.cli.grammar import Argument, Command, Group, Option, UsageError
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.admin import UnknownInfo

_ORDER = ("storage-pool", "network", "instance", "image-content")
_COLUMNS = (
    Column("TYPE", "type"),
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("POOL", "pool"),
    Column("RUNNING", "running"),
    Column("ADOPTABLE", "adoptable"),
)


def backup_state(context: Context) -> None:
    """Write a copy of the daemon's records to a file."""
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
    context.say(f"Written to {path}; 'isolad --recover {path}' puts it back")


def list_unknown(context: Context) -> None:
    """Print what is on the host and in no record."""
    show(context, _sorted(context), _COLUMNS)


def adopt(context: Context) -> None:
    """Make records again from what things say of themselves."""
    everything, wanted, name = context.args.flag("all"), context.args.many("THING"), context.args.text("name")
    if everything == bool(wanted):
        raise UsageError("Name what to take in, or --all")
    if name and len(wanted) != 1:
        raise UsageError("--name is for one instance")
    missing = set(wanted)
    for kind in _ORDER:  # what lies in a pool is seen once the pool is known
        for item in _sorted(context):
            if item["type"] == kind and (item["adoptable"] if everything else _meant(item, wanted)):
                _follow(context, "adopt", item, name)
                missing -= {item["id"], item["name"]}
    _complain(missing)


def remove_unknown(context: Context) -> None:
    """Remove what is in no record, with all its data."""
    wanted = context.args.many("THING")
    missing = set(wanted)
    for item in reversed(_sorted(context)):
        if _meant(item, wanted):
            _follow(context, "remove", item)
            missing -= {item["id"], item["name"]}
    _complain(missing)


def _follow(context: Context, action: str, item: UnknownInfo, name: str = "") -> None:
    admin = context.client.admin
    shown = item["name"] or item["id"]
    if action == "adopt":
        context.follow(admin.adopt(item["type"], item["id"], name), f"Adopting {shown}")
    else:
        context.follow(admin.remove(item["type"], item["id"]), f"Removing {shown}")
    context.say(f"{item['type']} {shown} is {'in a record again' if action == 'adopt' else 'removed'}")


def _complain(missing: set[str]) -> None:
    if missing:
        from isola.errors import NotFound

        raise NotFound(f"Nothing without a record is called {min(missing)!r}", remedy="list it: isola admin unknown")


def _meant(item: UnknownInfo, wanted: list[str]) -> bool:
    return item["id"] in wanted or (bool(item["name"]) and item["name"] in wanted)


def _sorted(context: Context) -> list[UnknownInfo]:
    return sorted(context.client.admin.unknown(), key=lambda item: (_ORDER.index(item["type"]), item["id"]))


COMMANDS = (
    Group(
        "admin",
        "The daemon's own records: copies, and what is in none",
        Command(
            "backup-state",
            "Write a copy of the daemon's records, whole at this moment, to a file",
            backup_state,
            Argument("FILE", "A new file (default: named after the time, here)", optional=True, complete="paths"),
            examples=(("isola admin backup-state /srv/backup/isola.db", "isolad --recover puts it back"),),
        ),
        Command(
            "unknown",
            "List what is on the host and in no record; nothing of it is touched",
            list_unknown,
            FORMAT,
            examples=(("isola admin unknown", "after a state was lost or put back"),),
        ),
        Command(
            "adopt",
            "Make records again from what volumes, pools and networks say of themselves",
            adopt,
            Argument("THING", "Id or name, as listed by 'unknown'", optional=True, many=True),
            Option("--all", "Everything that can be adopted"),
            Option("--name", "Another name for the instance", value="NAME"),
            examples=(
                ("isola admin adopt --all", "running instances run on"),
                ("isola admin adopt 3f2a91c07be4d512 --name web2", "where its name is taken"),
            ),
        ),
        Command(
            "remove-unknown",
            "Remove what is in no record, with all its data",
            remove_unknown,
            Argument("THING", "Id or name, as listed by 'unknown'", many=True),
            examples=(("isola admin remove-unknown 3f2a91c07be4d512", "ends its processes and deletes its volume"),),
        ),
    ),
)
