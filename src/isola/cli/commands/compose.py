"""``isola compose``."""

from __future__ import annotations

import time

from isola.cli.arguments import UsageError, pairs
from isola.cli.commands.exec import EXEC_OPTIONS
from isola.cli.compose.commands.attaching import ATTACHING
from isola.cli.compose.commands.chosen import SERVICES, each, instance_of, instances_of
from isola.cli.compose.commands.images import IMAGES
from isola.cli.compose.commands.inspecting import INSPECTING, recreation, scales
from isola.cli.compose.commands.lifecycle import LIFECYCLE, TIMEOUT
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isola.cli.context import Context
    from isola.client.operations import Operation
    from isola.client.shapes import InstanceInfo

    Begin = Callable[[str], Operation]
    Verb = Callable[[Context], int]

_OPTIONS = (
    Option(
        "-f --file", "A compose file; later ones override earlier ones", value="FILE", repeat=True, complete="paths"
    ),
    Option(
        "-p --project-name", "Name of the application (default: name: of the file, or the directory's)", value="NAME"
    ),
    Option("--project-directory", "Directory that paths are relative to", value="DIR", complete="paths"),
    Option("--profile", "A profile whose services are used, too", value="NAME", repeat=True),
    Option("--env-file", "Variables of the compose file, instead of .env", value="FILE", repeat=True, complete="paths"),
)


def config(context: Context) -> None:
    """Print the compose file with everything that it extends, includes and interpolates."""
    from isola.cli.compose.builds import image_name
    from isola.cli.compose.files import application
    from isola.cli.output import document
    from isola.compose.application import order
    from isola.compose.rendering import digest, rendered

    args = context.args
    found = application(context, args.many("SERVICE"))
    chosen: dict[str, Callable[[], list[str]]] = {
        "services": lambda: list(found.services),
        "volumes": lambda: list(found.volumes),
        "networks": lambda: list(found.networks),
        "images": lambda: [image_name(found, name) for name in found.services],
        "profiles": lambda: sorted({each for one in found.services.values() for each in one.get("profiles", ())}),
    }
    for kind, lines in chosen.items():
        if args.flag(kind):
            for line in lines():
                context.write(line)
            return
    if args.given("hash"):
        wanted = list(found.services) if args.text("hash") == "*" else args.text("hash").split(",")
        for name in order(found, wanted):
            if name in wanted:
                context.write(f"{name} {digest(found.services[name])}")
    elif not args.flag("quiet"):
        document(context, rendered(found.document()), args.text("format") or "yaml")


EXEC = tuple(
    Option("-e -E --env", "An environment variable", value="NAME=VALUE", repeat=True)
    if option.key == "env"
    else Option("-w --cwd", "Directory to run in", value="DIR", also="--workdir")
    if option.key == "cwd"
    else option
    for option in EXEC_OPTIONS
)
_STATUS = (
    Column("NAME", "name"),
    Column("SERVICE", "service"),
    Column("STATUS", "status"),
    Column("PORTS", "ports"),
    Column("IMAGE", "image"),
)


def up(context: Context) -> int:
    """Create and start what the file defines, and remove what it no longer defines."""
    from isola.cli.compose.files import application
    from isola.cli.compose.up import How, Up
    from isola.compose.application import order

    args, services = context.args, context.args.many("SERVICE")
    found = application(context, services)
    code_of, stays = args.text("exit-code-from"), args.flag("abort-on-container-exit")
    stays = stays or args.flag("abort-on-container-failure") or bool(code_of)
    if stays and (args.flag("wait") or args.flag("detach")):
        raise UsageError(
            "--abort-on-container-exit and --exit-code-from run in the foreground: use them without --wait and --detach"
        )
    if code_of:
        order(found, [code_of])
    work = Up(context, found)
    how = How(
        recreation(context),
        scales(args.many("scale")),
        pull=args.text("pull"),
        rebuild=args.flag("build"),
        never_build=args.flag("no-build"),
        start=not args.flag("no-start"),
        alone=args.flag("no-deps"),
        renew=args.flag("renew-anon-volumes"),
        dependencies_too=args.flag("always-recreate-deps"),
        seconds=args.number("timeout"),
    )
    since = time.time_ns()
    work.run(services, how)
    if args.flag("wait"):
        work.await_ready(services, args.number("wait-timeout"))
    status = _orphans(context, work.orphans())
    if not stays:
        return status
    from isola.cli.compose.foreground import until_end

    failures = args.flag("abort-on-container-failure")
    chosen = order(found, services)
    return until_end(context, found, chosen, code_of=code_of, only_failures=failures, seconds=how.seconds, since=since)


def _orphans(context: Context, orphans: Sequence[str]) -> int:
    if not orphans:
        return 0
    if not (context.args.flag("remove-orphans") or _set("COMPOSE_REMOVE_ORPHANS")):
        if not _set("COMPOSE_IGNORE_ORPHANS"):
            text = "Instances of services that are not in the file"
            context.say(f"{text}: {', '.join(orphans)}; --remove-orphans removes them")
        return 0
    return each(context, orphans, lambda name: context.client.instances.delete(name, force=True), "removed")


def _set(name: str) -> bool:
    from isola.environment import variable

    return (variable(name) or "").lower() in ("1", "true")


def down(context: Context) -> None:
    """Stop and remove the application."""
    from isola.cli.compose.down import down as take_down
    from isola.cli.compose.files import application

    args = context.args
    found = application(context)
    take_down(
        context,
        found,
        volumes=args.flag("volumes"),
        orphans=args.flag("remove-orphans"),
        images=args.text("rmi"),
        seconds=args.number("timeout"),
    )


def ps(context: Context) -> None:
    """Print the instances of the application."""
    found = instances_of(context, context.args.many("SERVICE"), one_off=context.args.flag("all"))
    wanted = [status.lower() for status in context.args.many("status")]
    shown = [_row(one) for one in found if not wanted or one["status"].lower() in wanted]
    if context.args.flag("services"):
        for name in sorted({str(one["service"]) for one in shown}):
            context.write(name)
        return
    if context.args.flag("names"):
        for one in shown:
            context.write(str(one["name"]))
        return
    show(context, shown, _STATUS)


def ls(context: Context) -> None:
    """Print the applications on the daemon."""
    from isola.cli.compose.server import applications

    rows = [
        {
            "name": name,
            "instances": len(found),
            "running": sum(one["status"] == "Running" for one in found),
            "directory": next((one["config"].get(_DIRECTORY, "") for one in found), ""),
        }
        for name, found in applications(context.client).items()
    ]
    columns = (("NAME", "name"), ("RUNNING", "running"), ("INSTANCES", "instances"), ("DIRECTORY", "directory"))
    show(context, rows, [Column(title, key) for title, key in columns])


def exec_(context: Context) -> int:
    """Run a command in an instance of a service, as its program does unless options say more; exit with its status."""
    from isola.cli.commands.exec import execute

    found = instance_of(context, context.args.text("SERVICE"))
    user, cwd = (str(found["program"].get(key) or "") for key in ("user", "cwd"))
    if context.args.flag("detach"):
        return _background(context, found["name"], user or "0", cwd)
    return execute(context, found["name"], context.args.many("COMMAND"), user=user or "0", cwd=cwd)


def _background(context: Context, name: str, user: str, cwd: str) -> int:
    args = context.args
    chosen = args.text("user") if args.given("user") else user
    context.client.instances.exec_apart(
        name,
        args.many("COMMAND"),
        environment=pairs(args.many("env"), "--env"),
        user=int(chosen) if chosen.isascii() and chosen.isdigit() else chosen,
        cwd=args.text("cwd") or cwd,
    )
    return 0


def logs(context: Context) -> None:
    """Print the output of services."""
    from isola.cli.commands.logs import nanoseconds
    from isola.cli.compose.logs import show as show_logs
    from isola.client.runs import output
    from isola.client.writing import write_all

    args = context.args
    tail = args.text("tail")
    query = {
        "follow": args.flag("follow"),
        "timestamps": args.flag("timestamps"),
        "since": nanoseconds(args.text("since")),
        "until": nanoseconds(args.text("until")),
        "tail": args.number("tail", 0) if tail and tail != "all" else None,
    }
    names = [one["name"] for one in instances_of(context, args.many("SERVICE"))]
    show_logs(
        names,
        context.connect,
        lambda client, name: output(client, name, **query),
        write_all,
        prefix=not args.flag("no-log-prefix"),
    )


_DIRECTORY = "user.com.docker.compose.project.working_dir"


def _row(one: InstanceInfo) -> dict[str, object]:
    from isola.compose.instances import SERVICE

    devices = one["expanded_devices"].values()
    proxies = [device for device in devices if device.get("type") == "proxy"]
    return {
        "name": one["name"],
        "service": one["config"].get(SERVICE, ""),
        "status": one["status"],
        "ports": ", ".join(f"{device['listen']} -> {device['connect'].rpartition(':')[2]}" for device in proxies),
        "image": one["config"].get("image.description", ""),
    }


COMMANDS = (
    Group(
        "compose",
        "Run applications of several services",
        Command(
            "up",
            "Create and start the application, or change it to what the file says",
            up,
            SERVICES,
            Option("-d --detach", "Accepted for compatibility: this is the default"),
            Option("--build", "Build the images of services that have a build, also existing ones"),
            Option("--no-build", "Build no image; one that is missing is an error"),
            Option("--force-recreate", "Replace all instances, even if they match the file"),
            Option("--no-recreate", "Replace no instance"),
            Option("--always-recreate-deps", "Also replace those that the named services depend on"),
            Option("-V --renew-anon-volumes", "Give replaced instances new anonymous volumes"),
            Option("--no-start", "Create without starting"),
            Option("--no-deps", "Do not start services that the named ones depend on"),
            Option("--wait", "Return when all instances are healthy, or running if they have no health check"),
            Option("--wait-timeout", "Seconds after which that is a failure (default: 600)", value="SECONDS"),
            Option(
                "--abort-on-container-exit",
                "Run in the foreground and print output until an instance ends, then stop all",
            ),
            Option("--abort-on-container-failure", "The same, until an instance fails"),
            Option("--exit-code-from", "The same, and exit with the status of this service", value="SERVICE"),
            TIMEOUT,
            Option("--remove-orphans", "Remove instances of services that are not in the file"),
            Option("--scale", "Number of instances of a service", value="SERVICE=NUMBER", repeat=True),
            Option("--pull", "When to fetch images", value="WHEN", choices=("always", "missing", "never")),
            examples=(
                ("isola compose up", "the compose.yaml of this directory"),
                ("isola compose -f base.yaml -f test.yaml up web", "one service, and those that it depends on"),
                ("isola compose up --scale web=3", "three instances of web"),
                ("isola compose up --exit-code-from tests", "until the tests have ended, with their status"),
            ),
        ),
        Command(
            "down",
            "Stop and remove the application",
            down,
            Option("-v --volumes", "Also remove its volumes: their data is lost"),
            Option("--remove-orphans", "Also remove instances of services that are not in the file"),
            Option(
                "--rmi",
                "Remove images, too: those without a name in the file, or all",
                value="WHICH",
                choices=("local", "all"),
            ),
            TIMEOUT,
            examples=(("isola compose down", "volumes stay"), ("isola compose down -v", "nothing stays")),
        ),
        Command(
            "ps",
            "List the instances of the application",
            ps,
            SERVICES,
            Option("--names", "Print their names only"),
            Option("--services", "Print the names of their services only"),
            Option("--status", "Only those with this status: running, stopped, frozen", value="STATUS", repeat=True),
            Option("-a --all", "Also those of isola compose run"),
            FORMAT,
            examples=(
                ("isola compose ps", "all of them"),
                ("isola compose ps web --format json", "those of a service"),
            ),
        ),
        Command("ls", "List the applications", ls, FORMAT, examples=(("isola compose ls", "all on this daemon"),)),
        Command(
            "exec",
            "Run a command in an instance of a service",
            exec_,
            Argument("SERVICE", "The service"),
            Argument("COMMAND", "The command and its arguments", rest=True),
            Option("--index", "Number of its instance", value="NUMBER", default="1"),
            Option("-d --detach", "Run the command in the background"),
            *EXEC,
            examples=(("isola compose exec db psql -U shop", "with a terminal, if there is one"),),
        ),
        Command(
            "config",
            "Check the compose file, and print it with all defaults and variables filled in",
            config,
            SERVICES,
            Option("--services", "Print the names of the services only"),
            Option("--volumes", "Print the names of the volumes only"),
            Option("--networks", "Print the names of the networks only"),
            Option("--images", "Print the names of the images only"),
            Option("--profiles", "Print the names of the profiles only"),
            Option("--hash", "Print digests of services: names separated by commas, or '*'", value="SERVICES"),
            Option("--format", "Format of the file", value="FORMAT", choices=("yaml", "json")),
            examples=(
                ("isola compose config", "the compose.yaml of this directory"),
                ("isola compose -f base.yaml -f test.yaml config --services", "names of services of two files"),
            ),
        ),
        Command(
            "logs",
            "Print the output of services",
            logs,
            SERVICES,
            Option("-f --follow", "Keep printing new output until the instances stop"),
            Option("-n --tail", "Only the last lines of each instance", value="LINES", default="all"),
            Option("--since", "Only lines newer than this time", value="TIME"),
            Option("--until", "Only lines older than this time", value="TIME"),
            Option("-t --timestamps", "Begin each line with its time"),
            Option("--no-log-prefix", "Print no names before lines"),
            examples=(("isola compose logs -f web", "of one service"), ("isola compose logs --tail 20", "of all")),
        ),
        *LIFECYCLE,
        *IMAGES,
        *INSPECTING,
        *ATTACHING,
        options=_OPTIONS,
    ),
)
