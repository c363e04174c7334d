"""``isola snapshot``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.moments import MOMENTS, moment
from isola.cli.output import DOCUMENT_FORMAT, FORMAT, Column, document, show, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context

_INSTANCE = Argument("INSTANCE", "The instance", complete="instances")
_OF = Argument("INSTANCE", "The instance; INSTANCE/SNAPSHOT means the same", divides=True, complete="instances")
_SNAPSHOT = Argument("SNAPSHOT", "The snapshot", complete="snapshots")
_NEVER = "0001-01-01T00:00:00Z"


def create(context: Context) -> None:
    """Take a snapshot; the daemon chooses the name if none is given."""
    instance, name = context.args.text("INSTANCE"), context.args.text("SNAPSHOT")
    expires, forever = context.args.text("expires"), context.args.flag("no-expiry")
    if expires and forever:
        raise UsageError("Either --expires or --no-expiry, not both")
    until = _NEVER if forever else moment(expires)
    operation = context.client.instances.snapshot(
        instance, name, expires_at=until, stateful=context.args.flag("stateful")
    )
    context.follow(operation, f"Snapshotting {instance}")
    context.say(f"Snapshot {operation.resource('instances_snapshots') or name} of {instance} is taken")


def list_all(context: Context) -> None:
    """Print an instance's snapshots."""
    from isola.model.units import format_size

    def size(item: Mapping[str, Any]) -> str:
        return format_size(item["size"]) if item.get("size", -1) >= 0 else ""

    columns = (
        Column("NAME", "name"),
        Column("TAKEN", lambda item: time_of(item["created_at"])),
        Column("EXPIRES", lambda item: time_of(item["expires_at"])),
        Column("SIZE", size),
        Column("STATEFUL", lambda item: "yes" if item.get("stateful") else ""),
    )
    show(context, context.client.instances.snapshots(context.args.text("INSTANCE")), columns)


def show_one(context: Context) -> None:
    """Print a snapshot."""
    instances = context.client.instances
    document(context, dict(instances.read_snapshot(context.args.text("INSTANCE"), context.args.text("SNAPSHOT"))))


def rename(context: Context) -> None:
    """Rename a snapshot."""
    instance, name, new = (context.args.text(each) for each in ("INSTANCE", "SNAPSHOT", "NEW"))
    context.follow(context.client.instances.rename_snapshot(instance, name, new), f"Renaming {name}")
    context.say(f"Snapshot {name} of {instance} is now {new}")


def expire(context: Context) -> None:
    """Set the time at which a snapshot expires."""
    instance, name, time = (context.args.text(each) for each in ("INSTANCE", "SNAPSHOT", "TIME"))
    until = "" if time == "never" else moment(time)
    context.follow(context.client.instances.expire_snapshot(instance, name, until), f"Updating {name}")
    context.say(f"Snapshot {name} of {instance} {f'expires at {until}' if until else 'does not expire'}")


def restore(context: Context) -> None:
    """Restore an instance from a snapshot."""
    instance, name = context.args.text("INSTANCE"), context.args.text("SNAPSHOT")
    context.follow(
        context.client.instances.restore(instance, name, stateful=context.args.flag("stateful")),
        f"Restoring {instance}",
    )
    context.say(f"{instance} is restored from {name}")


def delete(context: Context) -> None:
    instance = context.args.text("INSTANCE")
    for name in context.args.many("SNAPSHOT"):
        context.follow(context.client.instances.delete_snapshot(instance, name), f"Deleting {name}")
        context.say(f"Snapshot {name} of {instance} is deleted")


COMMANDS = (
    Group(
        "snapshot",
        "Snapshots of instances: files, configuration, devices and profiles at one moment",
        Command(
            "create",
            "Take a snapshot; a running instance is frozen for a moment",
            create,
            _OF,
            Argument("SNAPSHOT", "Its name (default: by the key snapshots.pattern)", optional=True),
            Option(
                "--expires",
                f"When it expires: {MOMENTS} (default: by the key snapshots.expiry)",
                value="TIME",
                also="--expiry",
            ),
            Option("--no-expiry", "It never expires"),
            Option("--stateful", "Include its memory, from which a restore can continue (not for containers)"),
            examples=(
                ("isola snapshot create web1", "snap0, then snap1, ..."),
                ("isola snapshot create web1 before-upgrade --no-expiry", "with this name, and without expiry"),
                ("isola snapshot create web1 --expires 2w", "it is deleted after two weeks"),
                ("isola snapshot create box1 --stateful", "with what its programs have in memory"),
            ),
        ),
        Command(
            "list",
            "List an instance's snapshots",
            list_all,
            _INSTANCE,
            FORMAT,
            aliases=("ls",),
            examples=(("isola snapshot list web1", "oldest first"),),
        ),
        Command(
            "show",
            "Show a snapshot",
            show_one,
            _OF,
            _SNAPSHOT,
            DOCUMENT_FORMAT,
            examples=(("isola snapshot show web1 snap0", "as YAML"),),
        ),
        Command(
            "rename",
            "Rename a snapshot",
            rename,
            _OF,
            _SNAPSHOT,
            Argument("NEW", "The new name"),
            examples=(("isola snapshot rename web1 snap0 before", "snap0 becomes before"),),
        ),
        Command(
            "expire",
            "Set when a snapshot expires",
            expire,
            _OF,
            _SNAPSHOT,
            Argument("TIME", f"{MOMENTS}, or never"),
            examples=(
                ("isola snapshot expire web1 snap0 3d", "three days from now"),
                ("isola snapshot expire web1 snap0 2030-01-01", "at the beginning of that day, local time"),
                ("isola snapshot expire web1 snap0 2030-01-01T00:00:00Z", "at that time"),
                ("isola snapshot expire web1 snap0 never", "it never expires"),
            ),
        ),
        Command(
            "restore",
            "Restore an instance from a snapshot; its present state is lost",
            restore,
            _OF,
            _SNAPSHOT,
            Option("--stateful", "Start it, and continue its programs from what was in memory"),
            examples=(
                ("isola snapshot restore web1 snap0", "a running instance is stopped, then started again"),
                ("isola snapshot restore box1 snap0 --stateful", "its programs are where they were"),
            ),
        ),
        Command(
            "delete",
            "Delete snapshots",
            delete,
            _OF,
            Argument("SNAPSHOT", "One or several", many=True, complete="snapshots"),
            aliases=("rm",),
            examples=(("isola snapshot delete web1 snap0 snap1", "the instance stays"),),
        ),
        default="create",
    ),
)
