"""``isola version``."""

from __future__ import annotations

from isola.cli.grammar import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def version(context: Context) -> int:
    """Print the versions of client and daemon."""
    from isola import __version__

    if context.args.flag("client"):
        context.write(__version__)
        return 0
    context.write(f"Client: {__version__}")
    environment = context.client.server.info().get("environment") or {}
    context.write(f"Daemon: {environment.get('server_version', 'unknown')}")
    return 0


COMMANDS = (
    Command(
        "version",
        "Show the versions of client and daemon",
        version,
        Option("--client", "Only the client's version, without contacting the daemon"),
        examples=(("isola version", "both versions"), ("isola version --client", "without a daemon")),
    ),
)
