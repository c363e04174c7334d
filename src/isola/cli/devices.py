"""``device add``, ``set``, ``remove`` and so on: the same for instances and profiles."""

from __future__ import annotations

from isola.cli.arguments import pairs
from isola.cli.grammar import Argument, Command, Group
from isola.cli.output import DOCUMENT_FORMAT, document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.cli.keys import Read, Write

    Devices = dict[str, dict[str, str]]

_DEVICE = Argument("DEVICE", "Name of the device")
_KEY = Argument("KEY", "The key", complete="device-keys")
_PAIRS = Argument("KEY=VALUE", "One or several", many=True, complete="device-keys")
_MORE = Argument("KEY=VALUE", "Its configuration", many=True, optional=True, complete="device-keys")
_TYPE = Argument("TYPE", "disk, nic, proxy, unix-char, unix-block, or none", complete="device-types")


def device_group(
    noun: str,
    name: Argument,
    *,
    read: Read,
    write: Write,
    fields: tuple[str, ...],
    sample: str,
    overrides: bool = False,
) -> Group:
    """The verbs below ``isola NOUN device``. ``overrides``: devices may also come from profiles.

    ``sample`` is a name for examples.
    """
    verbs = _Verbs(name.name, read, write, fields)

    def typed(verb: str, rest: str = "") -> str:
        return f"isola {noun} device {verb} {sample} {rest}".rstrip()

    verb = [
        Command(
            "add",
            "Add a device; a running instance gets it at once",
            verbs.add,
            name,
            _DEVICE,
            _TYPE,
            _MORE,
            examples=(
                (typed("add", "src disk source=/srv/www path=/var/www"), "a directory of the host"),
                (typed("add", "http proxy listen=tcp:0.0.0.0:80 connect=tcp:127.0.0.1:80"), "a port of the host"),
            ),
        ),
        Command(
            "remove",
            "Remove devices; a running instance loses them at once",
            verbs.remove,
            name,
            Argument("DEVICE", "One or several", many=True),
            aliases=("rm",),
            examples=((typed("remove", "src"), "unplug it"),),
        ),
        Command(
            "list",
            "List the names of devices",
            verbs.list,
            name,
            aliases=("ls",),
            examples=((typed("list"), "one per line"),),
        ),
        Command("show", "Show the devices", verbs.show, name, DOCUMENT_FORMAT, examples=((typed("show"), "as YAML"),)),
        Command(
            "get", "Print one key of a device", verbs.get, name, _DEVICE, _KEY,
            examples=((typed("get", "eth0 mtu"), "its value"),),
        ),
        Command(
            "set", "Set keys of a device", verbs.set, name, _DEVICE, _PAIRS,
            examples=((typed("set", "eth0 limits.max=10Mbit"), "one key"),),
        ),
        Command(
            "unset", "Unset a key of a device", verbs.unset, name, _DEVICE, _KEY,
            examples=((typed("unset", "eth0 limits.max"), "back to the default"),),
        ),
    ]  # fmt: skip
    if overrides:
        verb.append(
            Command(
                "override",
                "Copy a device of a profile, with changes",
                verbs.override,
                name,
                _DEVICE,
                _MORE,
                examples=((typed("override", "eth0 ipv4.address=10.1.2.3"), "the copy belongs to this instance"),),
            )
        )
    return Group("device", "Devices, which can be added and removed while instances run", *verb)


class _Verbs:
    def __init__(self, argument: str, read: Read, write: Write, fields: tuple[str, ...]) -> None:
        self._argument = argument
        self._read = read
        self._write = write
        self._fields = fields

    def add(self, context: Context) -> None:
        found, etag, devices = self._found(context)
        device = context.args.text("DEVICE")
        if device in devices:
            from isola.errors import AlreadyExists

            raise AlreadyExists(
                f"There is a device {device!r} already", remedy="change it with set, or remove it first"
            )
        devices[device] = {"type": context.args.text("TYPE"), **pairs(context.args.many("KEY=VALUE"), "add")}
        self._update(context, found, etag, devices)
        context.say(f"Device {device} is added to {context.args.text(self._argument)}")

    def remove(self, context: Context) -> None:
        found, etag, devices = self._found(context)
        for device in context.args.many("DEVICE"):
            self._require(found, devices, device)
            del devices[device]
        self._update(context, found, etag, devices)
        names = ", ".join(context.args.many("DEVICE"))
        context.say(f"Removed from {context.args.text(self._argument)}: {names}")

    def list(self, context: Context) -> None:
        for device in sorted(self._found(context)[2]):
            context.write(device)

    def show(self, context: Context) -> None:
        document(context, self._found(context)[2], context.args.text("format") or "yaml")

    def get(self, context: Context) -> None:
        found, _, devices = self._found(context)
        device = context.args.text("DEVICE")
        self._require(found, devices, device)
        context.write(devices[device].get(context.args.text("KEY"), ""))

    def set(self, context: Context) -> None:
        given = context.args.many("KEY=VALUE")
        if len(given) == 2 and "=" not in given[0]:
            given = [f"{given[0]}={given[1]}"]
        found, etag, devices = self._found(context)
        device = context.args.text("DEVICE")
        self._require(found, devices, device)
        devices[device] |= pairs(given, "set")
        self._update(context, found, etag, devices)

    def unset(self, context: Context) -> None:
        found, etag, devices = self._found(context)
        device = context.args.text("DEVICE")
        self._require(found, devices, device)
        devices[device].pop(context.args.text("KEY"), None)
        self._update(context, found, etag, devices)

    def override(self, context: Context) -> None:
        found, etag, devices = self._found(context)
        device = context.args.text("DEVICE")
        inherited = (found.get("expanded_devices") or {}).get(device)
        if device in devices:
            from isola.errors import AlreadyExists

            raise AlreadyExists(f"Device {device!r} belongs to the instance already", remedy="change it with set")
        if inherited is None:
            from isola.errors import NotFound

            raise NotFound(f"No profile of the instance has a device {device!r}", remedy="add one with add")
        devices[device] = dict(inherited) | pairs(context.args.many("KEY=VALUE"), "override")
        self._update(context, found, etag, devices)

    def _found(self, context: Context) -> tuple[Mapping[str, Any], str, Devices]:
        found, etag = self._read(context, context.args.text(self._argument))
        return found, etag, {name: dict(device) for name, device in (found.get("devices") or {}).items()}

    def _require(self, found: Mapping[str, object], devices: Devices, device: str) -> None:
        if device in devices:
            return
        expanded = found.get("expanded_devices")
        inherited = isinstance(expanded, dict) and device in expanded
        hint = "it comes from a profile: change it there, or use override" if inherited else ""
        from isola.errors import NotFound

        raise NotFound(f"There is no device {device!r}", remedy=hint)

    def _update(self, context: Context, found: Mapping[str, object], etag: str, devices: Devices) -> None:
        name = context.args.text(self._argument)
        whole = {field: found.get(field) for field in self._fields} | {"devices": devices}
        context.follow(self._write(context, name, whole, etag), f"Updating {name}")
