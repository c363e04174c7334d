"""``isola publish``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def publish(context: Context) -> None:
    """Make an image of an instance or a snapshot."""
    name, args = context.args.text("INSTANCE"), context.args
    operation = context.client.images.publish(
        name,
        aliases=args.many("alias"),
        properties=args.pairs("property"),
        public=args.flag("public"),
        changes=args.many("change"),
        author=args.text("author"),
        message=args.text("message"),
        pause=not args.flag("no-pause"),
    )
    context.follow(operation, f"Publishing {name}")
    fingerprint = str(operation.metadata.get("fingerprint") or "")
    context.say(f"Image {fingerprint[:12]} is ready")


COMMANDS = (
    Command(
        "publish",
        "Make an image of an instance, running or not, or of one of its snapshots",
        publish,
        Argument("INSTANCE", "INSTANCE or INSTANCE/SNAPSHOT", complete="sources"),
        Option("--alias", "An alias for the image, which may have been another one's", value="ALIAS", repeat=True),
        Option("--property", "A property to add or replace", value="KEY=VALUE", repeat=True),
        Option("-c --change", "A Dockerfile instruction, such as CMD or ENV", value="INSTRUCTION", repeat=True),
        Option("-a --author", "Who made it", value="NAME"),
        Option("-m --message", "What was changed", value="TEXT"),
        Option("--public", "Offer it to untrusted clients"),
        Option("--no-pause", "Do not freeze a running instance meanwhile"),
        aliases=("commit",),
        examples=(
            ("isola publish web1 --alias web", "its files as an image; other instances start from web"),
            ("isola publish web1/snap0 --alias web:then", "as it was at the time of a snapshot"),
            ("isola publish app1 --alias app:2 --change 'CMD [\"/bin/app\"]'", "with another command"),
        ),
    ),
)
