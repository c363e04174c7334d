"""``isola run``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.commands.create import IMAGE, OPTIONS, begin
from isola.cli.commands.exec import EXEC_OPTIONS, SHELL, execute
from isola.cli.grammar import Argument, Command, Option
from isola.cli.guardian import Guardian
from isola.client.interpreter import signal
from isola.errors import AlreadyExists, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def run(context: Context) -> int:
    """Launch an instance, run a command inside, delete it unless ``--keep``; exit with the command's status."""
    keep = context.args.flag("keep")
    if keep and context.args.flag("ephemeral"):
        raise UsageError("--keep and --ephemeral exclude each other", hint="without both it is deleted afterwards")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, signal.default_int_handler
        )  # the instance must be deleted whichever signal ends this process
    operation = begin(
        context,
        image=context.args.text("IMAGE"),
        name=context.args.text("name"),
        start=True,
        ephemeral=not keep,
        ends=False,  # a guardian is needed as soon as the instance exists
    )
    name = operation.resource("instances") or context.args.text("name")
    if keep:
        context.follow(operation, f"Launching {name}")
        try:
            return execute(context, name, context.args.many("COMMAND") or SHELL)
        finally:
            context.say(f"{name} is kept")
    guardian = Guardian(context.client, name)
    try:
        try:
            context.follow(operation, f"Launching {name}")
        except AlreadyExists:
            raise
        except BaseException:
            _remove_unstarted(context, name)
            raise
        try:
            return execute(context, name, context.args.many("COMMAND") or SHELL)
        finally:
            context.client.instances.delete(name, force=True).wait()
    finally:
        guardian.relieve()


def _remove_unstarted(context: Context, name: str) -> None:
    """Remove it where it was created, but could not be started; otherwise its creation was rolled back."""
    try:
        if context.client.instances.get(name)["ephemeral"]:
            context.client.instances.delete(name, force=True).wait()
    except NotFound:
        pass


COMMANDS = (
    Command(
        "run",
        "Run one command in a new instance and delete it afterwards",
        run,
        IMAGE,
        Argument("COMMAND", "The command and its arguments (default: a shell)", rest=True, optional=True),
        Option("--name", "Name of the instance (default: a generated one)", value="NAME"),
        Option("--keep", "Keep the instance and its data, running"),
        *OPTIONS,
        *(option for option in EXEC_OPTIONS if not set(option.names) & {n for o in OPTIONS for n in o.names}),
        examples=(
            ("isola run debian/12 -- cat /etc/os-release", "the command's output and exit status"),
            ("isola run debian/12", "a shell in a system that is deleted afterwards"),
            ("tar c src | isola run debian/12 -- tar tv", "standard input goes inside"),
        ),
    ),
)
