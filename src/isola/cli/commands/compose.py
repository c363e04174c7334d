"""``isola compose``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.commands.exec import EXEC_OPTIONS
from isola.cli.compose_verbs import MORE, scales
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
_SERVICES = Argument("SERVICE", "Services; all of them if none is named", optional=True, many=True)


def config(context: Context) -> None:
    """Print the compose file with everything that it extends, includes and interpolates."""
    from isola.cli.compose.files import application
    from isola.cli.output import document
    from isola.compose.rendering import rendered

    found = application(context, context.args.many("SERVICE"))
    chosen = {"services": list(found.services), "volumes": list(found.volumes), "networks": list(found.networks)}
    for kind, names in chosen.items():
        if context.args.flag(kind):
            for name in names:
                context.write(name)
            return
    if not context.args.flag("quiet"):
        document(context, rendered(found.document()))


_TIMEOUT = Option(
    "-t --timeout", "Seconds until an instance is killed (default: stop_grace_period, or 10)", value="SECONDS"
)
_STATUS = (
    Column("NAME", "name"),
    Column("SERVICE", "service"),
    Column("STATUS", "status"),
    Column("PORTS", "ports"),
    Column("IMAGE", "image"),
)


def up(context: Context) -> int:
    """Create and start what the file says, and remove what it says no longer."""
    from isola.cli.compose.files import application
    from isola.cli.compose.up import Up
    from isola.compose.changes import Recreation

    args = context.args
    if args.flag("force-recreate") and args.flag("no-recreate"):
        raise UsageError("--force-recreate and --no-recreate exclude each other")
    how = Recreation.ALWAYS if args.flag("force-recreate") else Recreation.CHANGED
    services = args.many("SERVICE")
    work = Up(context, application(context, services))
    work.run(
        services,
        recreation=Recreation.NEVER if args.flag("no-recreate") else how,
        scale=scales(args.many("scale")),
        pull=args.text("pull"),
        rebuild=args.flag("build"),
        start=not args.flag("no-start"),
        alone=args.flag("no-deps"),
    )
    if args.flag("wait"):
        work.await_ready(services, args.number("wait-timeout"))
    if orphans := work.orphans():
        if not args.flag("remove-orphans"):
            context.say(
                f"Instances of services that the file lacks: {', '.join(orphans)}; --remove-orphans removes them"
            )
            return 0
        return _each(context, orphans, lambda name: context.client.instances.delete(name, force=True), "removed")
    return 0


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
    shown = [_row(one) for one in instances_of(context, context.args.many("SERVICE"))]
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
    return execute(context, found["name"], context.args.many("COMMAND"), user=user or "0", cwd=cwd)


def build(context: Context) -> None:
    """Build the images of services."""
    from isola.cli.compose.builds import build as build_one
    from isola.cli.compose.files import application
    from isola.compose.application import order

    found, args = application(context, context.args.many("SERVICE")), context.args
    for name in args.many("SERVICE") or order(found):
        if name in found.services and "build" in found.services[name]:
            build_one(context, found, name, pull=args.flag("pull"), fresh=args.flag("no-cache"))


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


def pull(context: Context) -> None:
    """Fetch the images of services."""
    from isola.cli.compose.files import application
    from isola.cli.compose.images import fetch

    found = application(context, context.args.many("SERVICE"))
    for name in context.args.many("SERVICE") or found.services:
        if (image := found.services[name].get("image")) and "build" not in found.services[name]:
            context.say(f"{name}: {image} is {fetch(context, image)[:12]}")


def start(context: Context) -> int:
    """Start stopped instances, each service after those that it depends on."""
    from isola.cli.compose.conditions import await_condition
    from isola.cli.compose.files import application
    from isola.compose.application import order
    from isola.compose.instances import SERVICE

    found = application(context, context.args.many("SERVICE"))
    stopped = [one for one in instances_of(context) if one["status"] == "Stopped"]
    failed = 0
    for name in order(found, context.args.many("SERVICE")):
        names = [one["name"] for one in stopped if one["config"].get(SERVICE) == name]
        for needed, how in found.needs(name).items() if names else ():
            await_condition(context, found.name, needed, how)
        failed |= _each(context, names, context.client.instances.start, "running")
    return failed


def _verb(done: str, statuses: Sequence[str], begin: Callable[[Context, InstanceInfo], Operation]) -> Verb:
    """A verb over the instances of services that have one of the statuses."""

    def run(context: Context) -> int:
        found = instances_of(context, context.args.many("SERVICE"))
        chosen = {one["name"]: one for one in reversed(found) if one["status"] in statuses}
        return _each(context, list(chosen), lambda name: begin(context, chosen[name]), done)

    return run


def _stop(context: Context, one: InstanceInfo) -> Operation:
    from isola.cli.compose.down import before_stop
    from isola.cli.compose.down import stop as stop_one
    from isola.cli.compose.files import application

    before_stop(context, application(context), one)
    return stop_one(context, one, context.args.number("timeout"))


def _restart(context: Context, one: InstanceInfo) -> Operation:
    from isola.cli.compose.down import patience

    seconds = patience(one, context.args.number("timeout"))
    return context.client.instances.restart(one["name"], timeout=seconds, kill=True)


_DIRECTORY = "user.com.docker.compose.project.working_dir"
_LIVE = ("Running", "Frozen")
stop = _verb("stopped", _LIVE, _stop)
restart = _verb("restarted", _LIVE, _restart)
kill = _verb("killed", _LIVE, lambda context, one: context.client.instances.stop(one["name"], force=True))
pause = _verb("paused", ("Running",), lambda context, one: context.client.instances.pause(one["name"]))
unpause = _verb("running", ("Frozen",), lambda context, one: context.client.instances.resume(one["name"]))
rm = _verb("removed", ("Stopped",), lambda context, one: context.client.instances.delete(one["name"]))


def _each(context: Context, names: Sequence[str], begin: Begin, done: str) -> int:
    from isola.cli.commands.lifecycle import each

    return each(context, names, begin, "Working on", done) if names else 0


def instances_of(context: Context, services: Sequence[str] = ()) -> list[InstanceInfo]:
    """Of the application, and of these services only. Raises InvalidInput for a service that the file lacks."""
    from isola.cli.compose.files import application
    from isola.cli.compose.server import instances
    from isola.compose.application import order
    from isola.compose.instances import SERVICE

    found = application(context, services)
    order(found, services)
    return [one for one in instances(context.client, found.name) if not services or one["config"][SERVICE] in services]


def instance_of(context: Context, service: str) -> InstanceInfo:
    """The instance that a command is for: the first of the service, or the one that --index numbers."""
    from isola.errors import NotFound

    index = context.args.number("index", 1) or 1
    found = instances_of(context, [service])
    if index > len(found):
        raise NotFound(f"Service {service} has no instance {index}", remedy="isola compose up starts it")
    return found[index - 1]


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
            _SERVICES,
            Option("-d --detach", "Accepted for other tools: the command never stays"),
            Option("--build", "Build the images of services that have a build, also existing ones"),
            Option("--force-recreate", "Replace instances that are as the file says, too"),
            Option("--no-recreate", "Replace no instance"),
            Option("--no-start", "Create, and start nothing"),
            Option("--no-deps", "Leave services alone that the named ones depend on"),
            Option("--wait", "Return when all instances are healthy, or run if they have no health check"),
            Option("--wait-timeout", "Seconds after which that is a failure (default: 600)", value="SECONDS"),
            Option("--remove-orphans", "Remove instances of services that the file lacks"),
            Option("--scale", "Number of instances of a service", value="SERVICE=NUMBER", repeat=True),
            Option("--pull", "When to fetch images", value="WHEN", choices=("always", "missing", "never")),
            examples=(
                ("isola compose up", "the compose.yaml of this directory"),
                ("isola compose -f base.yaml -f test.yaml up web", "one service, and those that it depends on"),
                ("isola compose up --scale web=3", "three instances of web"),
            ),
        ),
        Command(
            "down",
            "Stop and remove the application",
            down,
            Option("-v --volumes", "Remove its volumes, too: their data is lost"),
            Option("--remove-orphans", "Remove instances of services that the file lacks, too"),
            Option(
                "--rmi",
                "Remove images, too: those without a name in the file, or all",
                value="WHICH",
                choices=("local", "all"),
            ),
            _TIMEOUT,
            examples=(("isola compose down", "volumes stay"), ("isola compose down -v", "nothing stays")),
        ),
        Command(
            "ps",
            "List the instances of the application",
            ps,
            _SERVICES,
            Option("--names", "Print their names only"),
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
            Option("--index", "Which of its instances", value="NUMBER", default="1"),
            *EXEC_OPTIONS,
            examples=(("isola compose exec db psql -U shop", "with a terminal, if there is one"),),
        ),
        Command(
            "config",
            "Check the compose file, and print it as it is understood",
            config,
            _SERVICES,
            Option("--services", "Print the names of the services only"),
            Option("--volumes", "Print the names of the volumes only"),
            Option("--networks", "Print the names of the networks only"),
            examples=(
                ("isola compose config", "the compose.yaml of this directory"),
                ("isola compose -f base.yaml -f test.yaml config --services", "names of services of two files"),
            ),
        ),
        Command(
            "build",
            "Build the images of services",
            build,
            _SERVICES,
            Option("--pull", "Fetch newer images to build from"),
            Option("--no-cache", "Use no kept results"),
            examples=(("isola compose build", "all that have a build"),),
        ),
        Command(
            "logs",
            "Print the output of services",
            logs,
            _SERVICES,
            Option("-f --follow", "Print what follows, too, until their runs end"),
            Option("-n --tail", "Only the last lines of each instance", value="LINES", default="all"),
            Option("--since", "Only what is younger", value="TIME"),
            Option("--until", "Only what is older", value="TIME"),
            Option("-t --timestamps", "Begin each line with its time"),
            Option("--no-log-prefix", "Print no names before lines"),
            examples=(("isola compose logs -f web", "of one service"), ("isola compose logs --tail 20", "of all")),
        ),
        Command("pull", "Fetch the images of services", pull, _SERVICES, examples=(("isola compose pull", "all"),)),
        Command("start", "Start stopped services", start, _SERVICES, examples=(("isola compose start web", "one"),)),
        Command("stop", "Stop services", stop, _SERVICES, _TIMEOUT, examples=(("isola compose stop", "all"),)),
        Command(
            "restart", "Restart services", restart, _SERVICES, _TIMEOUT, examples=(("isola compose restart", "all"),)
        ),
        Command("kill", "Kill services", kill, _SERVICES, examples=(("isola compose kill web", "without a shutdown"),)),
        Command("pause", "Freeze services", pause, _SERVICES, examples=(("isola compose pause web", "one"),)),
        Command("unpause", "Thaw services", unpause, _SERVICES, examples=(("isola compose unpause web", "one"),)),
        Command(
            "rm", "Remove stopped instances", rm, _SERVICES, examples=(("isola compose rm web", "of one service"),)
        ),
        *MORE,
        options=_OPTIONS,
    ),
)
