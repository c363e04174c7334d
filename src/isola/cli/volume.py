"""``isola storage volume``."""

from __future__ import annotations

from isola.cli.arguments import UsageError, pairs
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.keys import key_commands
from isola.cli.moments import MOMENTS, moment
from isola.cli.output import DOCUMENT_FORMAT, FORMAT, Column, document, show, time_of, users_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation

_NAME = Argument("POOL/VOLUME", "The volume; POOL VOLUME means the same", parts=2, complete="volumes")
_SNAPSHOT = Argument("POOL/VOLUME/SNAPSHOT", "The snapshot; the names may also be separate arguments", parts=3)
_COLUMNS = (
    Column("TYPE", "type"),
    Column("NAME", "name"),
    Column("DESCRIPTION", "description"),
    Column("CONTENT", "content_type"),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
)


def _parts(text: str, count: int, what: str) -> list[str]:
    parts = text.split("/")
    if len(parts) != count or not all(parts):
        raise UsageError(f"{what} is expected, not {text!r}", hint="for example default/data, or default data")
    return parts


def _volume(context: Context, argument: str = "POOL/VOLUME") -> tuple[str, str]:
    pool, name = _parts(context.args.text(argument), 2, argument)
    return pool, name


def _snapshot(context: Context) -> tuple[str, str, str]:
    pool, name, snapshot = _parts(context.args.text(_SNAPSHOT.name), 3, _SNAPSHOT.name)
    return pool, name, snapshot


def list_volumes(context: Context) -> None:
    """Print the volumes of one pool, or of all."""
    pool = context.args.text("POOL")
    pools = [pool] if pool else [each["name"] for each in context.client.storage.all()]
    columns = _COLUMNS if pool else (Column("POOL", "pool"), *_COLUMNS)
    found = [volume for name in pools for volume in context.client.volumes.all(name)]
    show(context, found, columns)


def info(context: Context) -> None:
    """Print a volume's use and snapshots."""
    from isola.model.units import format_size

    pool, name = _volume(context)
    volume, _ = context.client.volumes.read(pool, name)
    usage, snapshots = context.client.volumes.usage(pool, name), context.client.volumes.snapshots(pool, name)
    if context.args.text("format") == "json":
        return document(context, {**volume, "usage": usage, "snapshots": list(snapshots)})
    shown: dict[str, object] = {"name": name, "pool": pool, "description": volume.get("description")}
    shown |= {"created": time_of(volume.get("created_at")), "used": format_size(usage.get("used") or 0)}
    if usage.get("total"):
        shown["total"] = format_size(usage["total"])
    shown["used by"] = users_of(volume)
    shown["snapshots"] = {each["name"]: time_of(each.get("created_at")) for each in snapshots}
    document(context, {key: value for key, value in shown.items() if value})


def create(context: Context) -> None:
    """Create an empty volume."""
    pool, name = _volume(context)
    config, description = pairs(context.args.many("KEY=VALUE"), "create"), context.args.text("description")
    content = context.args.text("type") or "filesystem"
    context.follow(context.client.volumes.create(pool, name, config, description, content=content), f"Creating {name}")
    context.say(f"Storage volume {pool}/{name} is created")


def import_(context: Context) -> None:
    """Make a volume of an ISO image."""
    pool, name = _volume(context)
    context.follow(context.client.volumes.upload(pool, name, context.args.text("FILE")), f"Importing {name}")
    context.say(f"Storage volume {pool}/{name} is created")


def copy(context: Context) -> None:
    """Copy a volume or a snapshot."""
    source = context.args.text("SOURCE")
    count = 3 if source.count("/") == 2 else 2
    pool, name, *snapshot = _parts(source, count, "POOL/VOLUME or POOL/VOLUME/SNAPSHOT")
    target_pool, target = _volume(context, "POOL/NEW")
    operation = context.client.volumes.copy(
        pool,
        name,
        target_pool,
        target,
        snapshot=snapshot[0] if snapshot else "",
        snapshots=not context.args.flag("volume-only"),
        refresh=context.args.flag("refresh"),
    )
    context.follow(operation, f"Copying {name}")
    context.say(
        f"Storage volume {target_pool}/{target} is {'refreshed' if context.args.flag('refresh') else 'created'}"
    )


def move(context: Context) -> None:
    """Move a volume to another pool, or rename it."""
    pool, name = _volume(context)
    target_pool, target = _volume(context, "POOL/NEW")
    volumes = context.client.volumes
    if pool == target_pool:
        context.follow(volumes.rename(pool, name, target), f"Renaming {name}")
    else:
        context.follow(volumes.move(pool, name, target_pool, target), f"Moving {name}")
    context.say(f"Storage volume {pool}/{name} is now {target_pool}/{target}")


def rename(context: Context) -> None:
    pool, name = _volume(context)
    new = context.args.text("NEW")
    context.follow(context.client.volumes.rename(pool, name, new), f"Renaming {name}")
    context.say(f"Storage volume {pool}/{name} is now {pool}/{new}")


def delete(context: Context) -> None:
    """Delete volumes."""
    for text in context.args.many("POOL/VOLUME"):
        pool, name = _parts(text, 2, "POOL/VOLUME")
        context.follow(context.client.volumes.delete(pool, name), f"Deleting {name}")
        context.say(f"Storage volume {text} is deleted")


def attach(context: Context) -> None:
    """Add a disk device for the volume to an instance."""
    pool, name = _volume(context)
    instance, path, device = (context.args.text(argument) for argument in ("INSTANCE", "PATH", "DEVICE"))
    if not path.startswith("/"):  # a disk has none; and the order of arguments in LXD's clients
        path, device = device, path
    disk = context.client.volumes.read(pool, name)[0].get("content_type") != "filesystem"
    if disk and path:
        raise UsageError(f"{pool}/{name} is a disk, which has no PATH", hint="it appears as a device inside")
    if not disk and not path.startswith("/"):
        raise UsageError("A PATH that begins with / is expected" + (f", not {path!r}" if path else ""))
    device = device or name
    whole, etag = context.client.instances.read(instance)
    devices = dict(whole.get("devices") or {})
    if device in devices:
        from isola.errors import AlreadyExists

        raise AlreadyExists(f"{instance} has a device {device!r} already", remedy="give another name as DEVICE")
    devices[device] = {"type": "disk", "pool": pool, "source": name, **({"path": path} if path else {})}
    context.follow(
        context.client.instances.update(instance, {**whole, "devices": devices}, etag=etag), f"Attaching {name}"
    )
    context.say(f"Storage volume {pool}/{name} is device {device} of {instance}{f', at {path}' if path else ''}")


def detach(context: Context) -> None:
    """Remove the volume's disk device from an instance."""
    pool, name = _volume(context)
    instance = context.args.text("INSTANCE")
    whole, etag = context.client.instances.read(instance)
    devices = dict(whole.get("devices") or {})
    ours = [key for key, each in devices.items() if each.get("pool") == pool and each.get("source") == name]
    if chosen := context.args.text("DEVICE"):
        if chosen not in ours:
            from isola.errors import NotFound

            raise NotFound(f"{instance} has no device {chosen!r} of its own for {pool}/{name}")
        ours = [chosen]
    if not ours:
        from isola.errors import NotFound

        raise NotFound(
            f"{instance} has no device of its own for {pool}/{name}",
            remedy="if a profile has the device, remove it there",
        )
    kept = {key: each for key, each in devices.items() if key not in ours}
    context.follow(
        context.client.instances.update(instance, {**whole, "devices": kept}, etag=etag), f"Detaching {name}"
    )
    context.say(f"Storage volume {pool}/{name} is detached from {instance}")


def snapshot_create(context: Context) -> None:
    """Take a snapshot."""
    pool, name = _volume(context)
    given = context.args.text("NAME")
    operation = context.client.volumes.snapshot(pool, name, given, moment(context.args.text("expires")))
    context.follow(operation, f"Snapshotting {name}")
    made = given or operation.resource("storage_volume_snapshots")
    context.say(f"Snapshot {made} of storage volume {pool}/{name} is taken")


def snapshot_list(context: Context) -> None:
    """Print a volume's snapshots."""
    columns = (
        Column("NAME", "name"),
        Column("TAKEN", lambda item: time_of(item["created_at"])),
        Column("EXPIRES", lambda item: time_of(item["expires_at"])),
        Column("DESCRIPTION", "description"),
    )
    show(context, context.client.volumes.snapshots(*_volume(context)), columns)


def snapshot_show(context: Context) -> None:
    """Print a snapshot."""
    document(context, dict(context.client.volumes.read_snapshot(*_snapshot(context))))


def snapshot_rename(context: Context) -> None:
    pool, name, snapshot = _snapshot(context)
    new = context.args.text("NEW")
    context.follow(context.client.volumes.rename_snapshot(pool, name, snapshot, new), f"Renaming {snapshot}")
    context.say(f"Snapshot {snapshot} of storage volume {pool}/{name} is now {new}")


def restore(context: Context) -> None:
    """Restore a volume from a snapshot."""
    pool, name, snapshot = _snapshot(context)
    context.follow(context.client.volumes.restore(pool, name, snapshot), f"Restoring {name}")
    context.say(f"Storage volume {pool}/{name} is restored from {snapshot}")


def snapshot_delete(context: Context) -> None:
    pool, name, snapshot = _snapshot(context)
    context.follow(context.client.volumes.delete_snapshot(pool, name, snapshot), f"Deleting {snapshot}")
    context.say(f"Snapshot {snapshot} of storage volume {pool}/{name} is deleted")


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    return context.client.volumes.read(*_parts(name, 2, "POOL/VOLUME"))


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    pool, volume = _parts(name, 2, "POOL/VOLUME")
    return context.client.volumes.update(pool, volume, whole, etag=etag)


_SNAPSHOTS = Group(
    "snapshot",
    "Snapshots of custom volumes",
    Command(
        "create",
        "Take a snapshot of a volume",
        snapshot_create,
        _NAME,
        Argument("NAME", "Its name (default: from the volume's snapshots.pattern)", optional=True),
        Option("--expires", f"When to delete it: {MOMENTS}", value="TIME", also="--expiry"),
        examples=(
            ("isola storage volume snapshot create fast/data", "with a generated name"),
            (
                "isola storage volume snapshot create fast/data before --expires 2030-01-01T00:00:00Z",
                "deleted at that time",
            ),
        ),
    ),
    Command(
        "list",
        "List a volume's snapshots",
        snapshot_list,
        _NAME,
        FORMAT,
        aliases=("ls",),
        examples=(("isola storage volume snapshot list fast/data", "oldest first"),),
    ),
    Command(
        "show",
        "Show a snapshot",
        snapshot_show,
        _SNAPSHOT,
        DOCUMENT_FORMAT,
        examples=(("isola storage volume snapshot show fast/data/snap0", "as YAML"),),
    ),
    Command(
        "rename",
        "Rename a snapshot",
        snapshot_rename,
        _SNAPSHOT,
        Argument("NEW", "The new name"),
        examples=(("isola storage volume snapshot rename fast/data/snap0 before", "snap0 becomes before"),),
    ),
    Command(
        "restore",
        "Restore a volume from a snapshot; its present contents are lost",
        restore,
        _SNAPSHOT,
        examples=(("isola storage volume snapshot restore fast/data/snap0", "while nothing uses the volume"),),
    ),
    Command(
        "delete",
        "Delete a snapshot",
        snapshot_delete,
        _SNAPSHOT,
        aliases=("rm",),
        examples=(("isola storage volume snapshot delete fast/data/snap0", "the volume stays"),),
    ),
)

GROUP = Group(
    "volume",
    "Custom volumes, which are independent of instances",
    Command(
        "list",
        "List the volumes of one pool, or of all",
        list_volumes,
        Argument("POOL", "The storage pool", optional=True, complete="pools"),
        FORMAT,
        aliases=("ls",),
        examples=(("isola storage volume list fast", "root volumes, custom volumes and their snapshots"),),
    ),
    Command(
        "create",
        "Create an empty volume",
        create,
        Argument("POOL/VOLUME", "Its pool and name; POOL VOLUME means the same", parts=2),
        Argument("KEY=VALUE", "Configuration", many=True, optional=True, complete="volume-keys"),
        Option("--description", "A description", value="TEXT"),
        Option(
            "--type",
            "What is in it: files, or a disk for virtual machines",
            value="TYPE",
            choices=("filesystem", "block"),
        ),
        examples=(
            ("isola storage volume create default/disk1 size=20GiB --type block", "a disk for a virtual machine"),
            ("isola storage volume create default/data", "attach it to instances later"),
            ("isola storage volume create fast/data size=10GiB snapshots.schedule=@daily", "if the pool supports both"),
        ),
    ),
    Command(
        "import",
        "Make a volume of an ISO image, from which virtual machines are installed",
        import_,
        Argument("POOL/VOLUME", "Its pool and name", parts=2),
        Argument("FILE", "The ISO image", complete="paths"),
        Option("--type", "What the file is", value="TYPE", choices=("iso",)),
        examples=(("isola storage volume import default/installer debian-12.iso", "attach it with boot.priority=10"),),
    ),
    Command(
        "info",
        "Show a volume's size, users and snapshots",
        info,
        _NAME,
        DOCUMENT_FORMAT,
        examples=(("isola storage volume info fast/data", "its usage, users and snapshots"),),
    ),
    *key_commands(
        "storage volume",
        _NAME,
        read=_read,
        write=_write,
        fields=("config", "description"),
        sample="fast/data",
        example=("snapshots.schedule", "@daily"),
    ),
    Command(
        "copy",
        "Copy a volume or one of its snapshots, also to another pool",
        copy,
        Argument("SOURCE", "POOL/VOLUME or POOL/VOLUME/SNAPSHOT", complete="volumes"),
        Argument("POOL/NEW", "The copy"),
        Option("--volume-only", "Without its snapshots"),
        Option("--refresh", "Update the files and snapshots of a copy that exists and is not in use"),
        aliases=("cp",),
        examples=(
            ("isola storage volume copy fast/data slow/data", "to another pool"),
            ("isola storage volume copy fast/data/snap0 fast/then", "the contents at that time"),
            ("isola storage volume copy fast/data slow/data --refresh", "slow/data gets what fast/data has now"),
        ),
    ),
    Command(
        "move",
        "Move an unused volume to another pool",
        move,
        _NAME,
        Argument("POOL/NEW", "Its new pool and name"),
        aliases=("mv",),
        examples=(("isola storage volume move fast/data slow/data", "with its snapshots"),),
    ),
    Command(
        "rename",
        "Rename an unused volume",
        rename,
        _NAME,
        Argument("NEW", "The new name"),
        examples=(("isola storage volume rename fast/data old", "fast/data becomes fast/old"),),
    ),
    Command(
        "attach",
        "Attach a volume to an instance as a disk device",
        attach,
        _NAME,
        Argument("INSTANCE", "The instance", complete="instances"),
        Argument("PATH", "Mount point inside; a disk (type block or iso) has none", optional=True),
        Argument("DEVICE", "Name of the device (default: the volume's)", optional=True),
        examples=(
            ("isola storage volume attach fast/data web1 /srv", "several instances may share one"),
            ("isola storage volume attach fast/disk vm1", "a disk, for an instance with a kernel of its own"),
        ),
    ),
    Command(
        "detach",
        "Detach a volume from an instance",
        detach,
        _NAME,
        Argument("INSTANCE", "The instance", complete="instances"),
        Argument("DEVICE", "Name of the device (default: all of this volume)", optional=True),
        examples=(("isola storage volume detach fast/data web1", "the volume stays"),),
    ),
    Command(
        "delete",
        "Delete unused volumes with their snapshots",
        delete,
        Argument(
            "POOL/VOLUME", "One or several; POOL VOLUME... means the same", many=True, parts=2, complete="volumes"
        ),
        aliases=("rm",),
        examples=(("isola storage volume delete fast/data", "with all its data"),),
    ),
    _SNAPSHOTS,
)
