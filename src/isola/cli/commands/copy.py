"""``isola copy`` and ``isola move``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.commands.create import ISOLATIONS
from isola.cli.grammar import Argument, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def copy(context: Context) -> None:
    """Create an instance as a copy of another one or of a snapshot."""
    args = context.args
    source, name = args.text("SOURCE"), args.text("NAME")
    if source.count("/") > 1 or not all(source.split("/")):
        raise UsageError(f"INSTANCE or INSTANCE/SNAPSHOT is expected, not {source!r}")
    operation = context.client.instances.copy(
        source,
        name,
        project=args.text("from-project"),
        pool=args.text("storage"),
        refresh=args.flag("refresh"),
        snapshots=not args.flag("instance-only"),
        config=args.pairs("config"),
        profiles=args.many("profile") if args.given("profile") else None,
        ephemeral=args.flag("ephemeral"),
        start=args.flag("start"),
    )
    name = name or operation.resource("instances")
    context.follow(operation, f"Copying {source}")
    done = "refreshed" if args.flag("refresh") else "created"
    context.say(f"{name} is {'running' if args.flag('start') else done}")


def move(context: Context) -> None:
    """Move an instance to another name, pool, project or isolation."""
    args = context.args
    name, new = args.text("NAME"), args.text("NEW")
    pool, project = args.text("storage"), args.text("to-project")
    isolation, runtime = args.text("isolation"), args.text("runtime")
    if not (new or pool or project or isolation or runtime):
        raise UsageError("A new name, --storage, --to-project or --isolation is expected")
    if not (pool or project or isolation or runtime):
        from isola.cli.commands.lifecycle import rename

        rename(context)
        return
    alone = args.flag("instance-only")
    operation = context.client.instances.move(
        name, new, pool=pool, project=project, isolation=isolation, runtime=runtime, snapshots=not alone
    )
    context.follow(operation, f"Moving {name}")
    choices = {"is in pool": pool, "is in project": project, "has isolation": isolation, "has runtime": runtime}
    context.say(f"{new or name} {' and '.join(f'{what} {value}' for what, value in choices.items() if value)}")


COMMANDS = (
    Command(
        "copy",
        "Copy an instance, running or not, or one of its snapshots",
        copy,
        Argument("SOURCE", "INSTANCE or INSTANCE/SNAPSHOT", complete="sources"),
        Argument("NAME", "Name of the copy (default: a generated one)", optional=True),
        Option(
            "-c --config",
            "A configuration key to change in the copy",
            value="KEY=VALUE",
            repeat=True,
            complete="instance-keys",
        ),
        Option("-p --profile", "A profile instead of the source's", value="NAME", repeat=True, complete="profiles"),
        Option("-e --ephemeral", "Delete the copy when it stops"),
        Option("-s --storage", "The pool of the copy's root", value="POOL", complete="pools"),
        Option("--from-project", "The project of the source", value="NAME", complete="projects"),
        Option("--instance-only", "Without its snapshots"),
        Option("--refresh", "Update the files and snapshots of a copy that exists and is stopped"),
        Option("--start", "Also start it"),
        aliases=("cp",),
        examples=(
            ("isola copy web1 web2", "with its own ids, addresses and host name"),
            ("isola copy web1/snap0 web2 --start", "web1 as it was at that time"),
            ("isola copy web1 web1 --from-project blue", "from another project"),
            ("isola copy web1 web2 --storage fast", "to another pool, with its snapshots"),
            ("isola copy web1 web2 --refresh", "web2 gets the files and snapshots that web1 has now"),
        ),
    ),
    Command(
        "move",
        "Move a stopped instance to another pool, project, name or isolation",
        move,
        Argument("NAME", "Its name now", complete="instances"),
        Argument("NEW", "The new name (default: the same)", optional=True),
        Option("-s --storage", "The new pool of its root", value="POOL", complete="pools"),
        Option("--to-project", "The new project", value="NAME", complete="projects"),
        Option("-i --isolation", "The new kind of isolation", value="KIND", choices=ISOLATIONS),
        Option("--runtime", "The new runtime driver", value="NAME"),
        Option("--instance-only", "Without its snapshots, which are lost"),
        aliases=("mv",),
        examples=(
            ("isola move web1 web2", "another name"),
            ("isola move web1 --storage fast", "to another pool, with its snapshots"),
            ("isola move web1 --to-project blue", "to another project"),
            ("isola move web1 --isolation microvm", "behind another wall; its data stay as they are"),
        ),
    ),
)
