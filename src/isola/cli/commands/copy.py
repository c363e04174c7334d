"""``isola copy``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Option, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def copy(context: Context) -> None:
    """Make an instance of another one, or of a snapshot of it."""
    args = context.args
    source, name = args.text("SOURCE"), args.text("NAME")
    if source.count("/") > 1 or not all(source.split("/")):
        raise UsageError(f"INSTANCE or INSTANCE/SNAPSHOT is expected, not {source!r}")
    operation = context.client.instances.copy(
        source,
        name,
        project=args.text("from-project"),
        snapshots=not args.flag("instance-only"),
        config=args.pairs("config"),
        profiles=args.many("profile") if args.given("profile") else None,
        ephemeral=args.flag("ephemeral"),
        start=args.flag("start"),
    )
    name = name or operation.resource("instances")
    context.follow(operation, f"Copying {source}")
    context.say(f"{name} is {'running' if args.flag('start') else 'created'}")


COMMANDS = (
    Command(
        "copy",
        "Copy an instance, running or not, or one of its snapshots",
        copy,
        Argument("SOURCE", "INSTANCE or INSTANCE/SNAPSHOT", complete="instances"),
        Argument("NAME", "Name of the copy (default: a generated one)", optional=True),
        Option(
            "-c --config", "A key that is to be another one", value="KEY=VALUE", repeat=True, complete="instance-keys"
        ),
        Option("-p --profile", "A profile instead of the source's", value="NAME", repeat=True, complete="profiles"),
        Option("-e --ephemeral", "Delete the copy when it stops"),
        Option("--from-project", "The project of the source", value="NAME", complete="projects"),
        Option("--instance-only", "Without its snapshots"),
        Option("--start", "Also start it"),
        aliases=("cp",),
        examples=(
            ("isola copy web1 web2", "with ids, addresses and a host name of its own"),
            ("isola copy web1/snap0 web2 --start", "what web1 was then"),
            ("isola copy web1 web1 --from-project blue", "from another project"),
        ),
    ),
)
