"""Verbs of ``isola compose`` that attach to a service or follow the application, and those that are not offered."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.compose.commands.chosen import SERVICES, instance_of, instances_of
from isola.cli.compose.commands.inspecting import recreation, scales
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from isola.cli.context import Context


def run(context: Context) -> int:
    """Run a command in an instance of its own, made as a service says; exit with its status."""
    from isola.cli.compose.files import application
    from isola.cli.compose.oneoff import OneOff

    service = context.args.text("SERVICE")
    return OneOff(context, application(context, [service]), service).run()


def create(context: Context) -> None:
    """Create what the file defines, without starting it."""
    from isola.cli.compose.files import application
    from isola.cli.compose.up import How, Up

    args, services = context.args, context.args.many("SERVICE")
    how = How(
        recreation(context),
        scales(args.many("scale")),
        pull=args.text("pull"),
        rebuild=args.flag("build"),
        never_build=args.flag("no-build"),
        start=False,
    )
    Up(context, application(context, services)).run(services, how)


def attach(context: Context) -> int:
    """Connect to the output and input of a service's program, until it ends."""
    from isola.cli.attached import attach as attach_to
    from isola.cli.commands.console import Detacher
    from isola.cli.terminal import size
    from isola.client.runs import wait

    name = instance_of(context, context.args.text("SERVICE"))["name"]
    session = context.client.instances.attach(name)
    try:
        if session.interactive:
            session.resize(*size(1))
            context.say("To detach: Ctrl-A, then q.")
        source = None if context.args.flag("no-stdin") else 0
        if attach_to(session, source, Detacher() if session.interactive else None):
            return 0
        return wait(context.client, name)
    finally:
        session.close()


def events(context: Context) -> None:
    """Print what happens to the instances of the application, until Ctrl-C."""
    from isola.cli.compose.events import Watch

    Watch(context, context.args.many("SERVICE"), json=context.args.flag("json")).run()


def stats(context: Context) -> None:
    """Print what the services use, once or again and again."""
    from isola.cli.commands.top import measure

    found = instances_of(context, context.args.many("SERVICE"))
    running = [one["name"] for one in found if one["status"] == "Running"]
    if running:
        measure(context, running)


def version(context: Context) -> None:
    """Print the version of Isola, whose part this is."""
    from isola import __version__

    if context.args.flag("short"):
        context.write(__version__)
    elif context.args.text("format") == "json":
        context.write(f'{{"version": "{__version__}"}}')
    else:
        context.write(f"isola compose {__version__}")


def volumes(context: Context) -> None:
    """Print the volumes of the application."""
    from isola.cli.compose.files import application
    from isola.cli.compose.server import facts
    from isola.compose.instances import LABEL

    found = application(context, context.args.many("SERVICE"))
    pool = facts(context.client).pool
    rows = [
        {"name": each["name"], "volume": (each.get("config") or {}).get(LABEL + "volume", ""), "pool": pool}
        for each in context.client.volumes.all(pool)
        if (each.get("config") or {}).get(LABEL + "project") == found.name
    ]
    show(context, rows, [Column("NAME", "name"), Column("VOLUME", "volume"), Column("POOL", "pool")])


def _refused(name: str, way: str) -> Callable[[Context], None]:
    def refuse(context: Context) -> None:
        raise UsageError(f"isola compose {name} is not offered", hint=way)

    return refuse


def _not_offered(name: str, way: str) -> Command:
    return Command(
        name,
        f"Not offered: {way}",
        _refused(name, way),
        Argument("ARGUMENTS", "Any", optional=True, rest=True),
        examples=((f"isola compose {name}", "prints what to use instead"),),
    )


_PULL = Option("--pull", "When to fetch images", value="WHEN", choices=("always", "missing", "never"))
ATTACHING = (
    Command(
        "run",
        "Run one command in a new instance, configured like a service",
        run,
        Argument("SERVICE", "The service"),
        Argument("COMMAND", "The command, in place of the service's", rest=True, optional=True),
        Option("--rm", "Remove the instance when the command has ended"),
        Option("-d --detach", "Run it in the background, and print the instance's name"),
        Option("-e --env", "An environment variable; NAME alone takes its value here", value="NAME=VALUE", repeat=True),
        Option("--env-from-file", "A file with environment variables", value="FILE", repeat=True, complete="paths"),
        Option("-v --volume", "A volume or a directory: SOURCE:TARGET", value="VOLUME", repeat=True),
        Option("-p --publish", "A port of the host: [ADDRESS:]PORT:PORT", value="PORTS", repeat=True),
        Option("-P --service-ports", "Publish the ports of the service"),
        Option("--use-aliases", "Use the service's names on its networks"),
        Option("--entrypoint", "The entrypoint, in place of the image's or the service's", value="PROGRAM"),
        Option("-u --user", "User to run as", value="USER"),
        Option("-w --workdir", "Directory to run in", value="DIR"),
        Option("-l --label", "A label of the instance", value="KEY=VALUE", repeat=True),
        Option("--cap-add", "A capability to add", value="NAME", repeat=True),
        Option("--cap-drop", "A capability to drop", value="NAME", repeat=True),
        Option("--name", "Name of the instance (default: a generated one)", value="NAME"),
        Option("-T --no-tty", "Allocate no terminal: use pipes", also="--no-TTY"),
        Option("-I --no-stdin", "Read standard input from /dev/null"),
        Option("-i --interactive", "Keep standard input open (the default)"),
        Option("--no-deps", "Do not start services that this one depends on"),
        Option("--build", "Build the service's image, even if it exists"),
        _PULL,
        details="Options come before SERVICE. Ports of the service are not published, and it is not restarted.",
        examples=(
            ("isola compose run --rm web python manage.py migrate", "its output and exit status"),
            ("isola compose run --rm -e DEBUG=1 -v ./data:/data web sh", "with one more variable and directory"),
        ),
    ),
    Command(
        "create",
        "Create what the file defines, without starting it",
        create,
        SERVICES,
        Option("--build", "Build the images of services that have a build, also existing ones"),
        Option("--no-build", "Build no image; one that is missing is an error"),
        Option("--force-recreate", "Replace all instances, even if they match the file"),
        Option("--no-recreate", "Replace no instance"),
        Option("--scale", "Number of instances of a service", value="SERVICE=NUMBER", repeat=True),
        _PULL,
        examples=(("isola compose create", "as up --no-start"),),
    ),
    Command(
        "attach",
        "Connect to the output and input of a service's program",
        attach,
        Argument("SERVICE", "The service"),
        Option("--index", "Number of its instance", value="NUMBER", default="1"),
        Option("-I --no-stdin", "Read standard input from /dev/null"),
        details="With a terminal Ctrl-A, then q detaches.",
        examples=(("isola compose attach web", "until it ends, with its exit status"),),
    ),
    Command(
        "events",
        "Print what happens to the instances of the application",
        events,
        SERVICES,
        Option("--json", "One JSON object on each line"),
        examples=(("isola compose events --json", "until Ctrl-C"),),
    ),
    Command(
        "stats",
        "Show what services use: CPU, memory, network, disks",
        stats,
        SERVICES,
        Option("--follow", "Repeat every second, until Ctrl-C"),
        Option("--no-stream", "Accepted for compatibility: this is the default"),
        FORMAT,
        examples=(("isola compose stats web", "of one service"),),
    ),
    Command("volumes", "List the volumes of the application", volumes, SERVICES, FORMAT,
            examples=(("isola compose volumes", "all of them"),)),
    Command(
        "version",
        "Print the version",
        version,
        Option("--short", "The number only"),
        Option("--format", "json for programs", value="FORMAT", choices=("pretty", "json")),
        examples=(("isola compose version --short", "for example 0.2.0"),),
    ),
    _not_offered("watch", "files are not watched: run isola compose up --build after a change"),
    _not_offered("publish", "compose files are not pushed to registries"),
    _not_offered("commit", "isola publish makes an image of an instance"),
    _not_offered("export", "isola publish makes an image of an instance"),
)  # fmt: skip
