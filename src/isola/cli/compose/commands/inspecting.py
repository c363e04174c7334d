"""Verbs of ``isola compose`` that look at one thing of the application: files, ports, processes, images, ends."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.compose.commands.chosen import SERVICES, instance_of, instances_of
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.shapes import InstanceInfo
    from isola.compose.changes import Recreation

_INDEX = Option("--index", "Number of its instance", value="NUMBER", default="1")


def cp(context: Context) -> None:
    """Copy a file or a directory into or out of an instance of a service."""
    from isola.cli.transfer import Owner, pull_all, push_all

    source, target = context.args.text("SOURCE"), context.args.text("TARGET")
    here, there = (_place(each) for each in (source, target))
    if bool(here) == bool(there):
        raise UsageError(
            "One of the two must be SERVICE:PATH, the other a local path", hint="isola compose cp web:/etc/motd ."
        )
    service, path = here or there or ("", "")
    files = context.client.instances.files(_instance(context, service)["name"])
    if there:
        push_all(files, [source], path, Owner(), recursive=True, parents=False)
    else:
        pull_all([(files, path)], target, recursive=True, parents=False)


def port(context: Context) -> None:
    """Print the address of the host at which a port of a service is published."""
    from isola.errors import NotFound

    service, wanted = context.args.text("SERVICE"), context.args.text("PORT")
    protocol = context.args.text("protocol") or "tcp"
    for device in _instance(context, service)["expanded_devices"].values():
        if device.get("type") == "proxy":
            kind, _, address = device["listen"].partition(":")
            if kind == protocol and device["connect"].rpartition(":")[2] == wanted:
                context.write(address.replace("[::]", "0.0.0.0"))
                return
    raise NotFound(f"Port {wanted}/{protocol} of service {service} is not published")


def top(context: Context) -> None:
    """Print the processes of services."""
    from isola.client.runs import processes

    items = []
    for one in _running(context):
        table = processes(context.client, one["name"])
        items += [{"INSTANCE": one["name"], **dict(zip(table["titles"], row, strict=False))} for row in table["rows"]]
    titles = list(dict.fromkeys(title for item in items for title in item))
    show(context, items, [Column(title, title) for title in titles])


def wait(context: Context) -> int:
    """Wait until services have ended; exit with the status of the first that is named."""
    from isola.client.runs import wait as wait_for

    ended = {one["name"]: wait_for(context.client, one["name"]) for one in _instances(context)}
    for name, status in ended.items():
        context.write(f"{name}: {status}")
    if context.args.flag("down-project"):
        from isola.cli.compose.down import down
        from isola.cli.compose.files import application

        down(context, application(context), volumes=False, orphans=False, seconds=None)
    return next(iter(ended.values()), 0)


def scale(context: Context) -> None:
    """Change the number of instances of services."""
    from isola.cli.compose.files import application
    from isola.cli.compose.up import How, Up
    from isola.compose.changes import Recreation

    wanted = scales(context.args.many("NUMBERS"))
    found = application(context, list(wanted))
    Up(context, found).run(list(wanted), How(Recreation.NEVER, wanted, alone=context.args.flag("no-deps")))


def recreation(context: Context) -> Recreation:
    """Of ``--force-recreate`` and ``--no-recreate``."""
    from isola.compose.changes import Recreation

    args = context.args
    if args.flag("force-recreate") and args.flag("no-recreate"):
        raise UsageError("--force-recreate and --no-recreate exclude each other")
    if args.flag("no-recreate"):
        return Recreation.NEVER
    return Recreation.ALWAYS if args.flag("force-recreate") else Recreation.CHANGED


def scales(texts: list[str] | tuple[str, ...]) -> dict[str, int]:
    """``web=3``. Raises UsageError."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not (name and number.isascii() and number.isdigit() and len(number) < 5):
            raise UsageError(f"SERVICE=NUMBER is expected, not {text!r}")
        found[name] = int(number)
    return found


def _place(text: str) -> tuple[str, str] | None:
    """Service and path of ``web:/etc/motd``; None for a path here."""
    service, colon, path = text.partition(":")
    return (service, path if path.startswith("/") else f"/{path}") if colon and service and "/" not in service else None


def _instances(context: Context) -> list[InstanceInfo]:

    return instances_of(context, context.args.many("SERVICE"))


def _running(context: Context) -> list[InstanceInfo]:
    return [one for one in _instances(context) if one["status"] == "Running"]


def _instance(context: Context, service: str) -> InstanceInfo:

    return instance_of(context, service)


INSPECTING = (
    Command(
        "cp",
        "Copy files and directories between a service and this machine",
        cp,
        Argument("SOURCE", "SERVICE:PATH, or a local path", complete="files"),
        Argument("TARGET", "The other one", complete="files"),
        _INDEX,
        examples=(
            ("isola compose cp web:/etc/motd .", "out of the first instance"),
            ("isola compose cp --index 2 pages web:/srv", "into the second one"),
        ),
    ),
    Command(
        "port",
        "Print where a port of a service is published",
        port,
        Argument("SERVICE", "The service"),
        Argument("PORT", "Port inside the service"),
        Option("--protocol", "tcp, udp or sctp", value="NAME", choices=("tcp", "udp", "sctp"), default="tcp"),
        _INDEX,
        examples=(("isola compose port web 80", "for example 0.0.0.0:8080"),),
    ),
    Command("top", "List the processes of services", top, SERVICES, FORMAT,
            examples=(("isola compose top web", "of one service"),)),
    Command("wait", "Wait until services have ended", wait, SERVICES,
            Option("--down-project", "Then stop and remove the application"),
            examples=(("isola compose wait setup", "exits with its status"),)),
    Command(
        "scale",
        "Change the number of instances of services",
        scale,
        Argument("NUMBERS", "SERVICE=NUMBER", many=True),
        Option("--no-deps", "Do not start services that these depend on"),
        examples=(("isola compose scale web=3", "as up --scale, and replaces nothing"),),
    ),
)  # fmt: skip
