"""``isola exec`` and ``isola shell``."""

from __future__ import annotations

import posix

from isola.cli.arguments import UsageError, pairs
from isola.cli.grammar import Argument, Command, Option
from isola.environment import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from isola.cli.context import Context

NAME = Argument("NAME", "The instance", complete="instances")
EXEC_OPTIONS = (
    Option("-t --tty", "Allocate a terminal (the default on a terminal)"),
    Option("-T --no-tty", "Allocate no terminal: use pipes"),
    Option("-u --user", "User to run as: an id, or a user name inside the instance", value="USER", default="0"),
    Option("-g --group", "Group id to run as (default: the user's group)", value="GID"),
    Option("-w --cwd", "Directory to run in", value="DIR"),
    Option("-E --env", "An environment variable", value="NAME=VALUE", repeat=True),
    Option("-I --no-stdin", "Read standard input from /dev/null"),
)
SHELL = ("/bin/sh", "-c", 'if command -v su >/dev/null; then exec su -l "$0"; fi; exec "${SHELL:-/bin/sh}" -l', "root")


def exec_(context: Context) -> int:
    """Run a command inside; exit with its status."""
    return execute(context, context.args.text("NAME"), context.args.many("COMMAND"))


def shell(context: Context) -> int:
    """Open a login shell inside."""
    user = context.args.text("login") or "root"
    return execute(context, context.args.text("NAME"), (*SHELL[:-1], user))


def execute(context: Context, name: str, command: Sequence[str], *, user: str = "0", cwd: str = "") -> int:
    """Run a command inside, with this process's terminal or pipes; returns its exit status.

    ``user``, ``cwd``: unless options name others.
    """
    interactive = _interactive(context)
    environment = pairs(context.args.many("env"), "--env")
    size = (0, 0)
    if interactive:
        from isola.cli.terminal import size as terminal_size

        size = terminal_size(1)
        if terminal := variable("TERM"):
            environment.setdefault("TERM", terminal)
    session = context.client.instances.exec(
        name,
        command,
        interactive=interactive,
        environment=environment,
        user=_user(context.args.text("user") if context.args.given("user") else user),
        group=context.args.number("group", 0) if context.args.text("group") else None,
        cwd=context.args.text("cwd") or cwd,
        size=size,
    )
    from isola.cli.attached import attach

    source = None if context.args.flag("no-stdin") else 0
    try:
        attach(session, source)
        return session.status()
    finally:
        session.close()


def _user(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text or 0


def _interactive(context: Context) -> bool:
    args = context.args
    if args.flag("tty") and args.flag("no-tty"):
        raise UsageError("--tty and --no-tty exclude each other")
    if args.flag("tty") or args.flag("no-tty"):
        return args.flag("tty")
    return posix.isatty(0) and posix.isatty(1) and not args.flag("no-stdin")


COMMANDS = (
    Command(
        "exec",
        "Run a command inside an instance",
        exec_,
        NAME,
        Argument("COMMAND", "The command and its arguments", rest=True),
        *EXEC_OPTIONS,
        examples=(
            ("isola exec web1 -- systemctl is-system-running", "its output and exit status"),
            ("isola exec web1 --user 1000 --cwd /srv -- ls -l", "as another user, in another directory"),
            ("isola exec web1 -t -- top", "with a terminal"),
            ("isola exec db1 -- pg_dump shop > shop.sql", "standard output can be redirected"),
        ),
    ),
    Command(
        "shell",
        "Open a login shell inside an instance",
        shell,
        NAME,
        Option("-l --login", "User to log in as", value="USER", default="root"),
        *EXEC_OPTIONS[:2],
        *EXEC_OPTIONS[4:6],
        aliases=("sh",),
        examples=(("isola shell web1", "as root"), ("isola shell web1 -l alice", "as alice")),
    ),
)
