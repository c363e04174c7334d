"""``isola file``."""

from __future__ import annotations

import os
import sys

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Group, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.files import Files

_INSIDE = Argument("INSTANCE/PATH", "Where, inside: web1/etc/hosts", complete="files")
_OWNER = (
    Option("--uid", "Owner inside", value="UID"),
    Option("--gid", "Group inside", value="GID"),
    Option("--mode", "Permissions in octal", value="MODE"),
)


def place(context: Context, text: str) -> tuple[Files, str]:
    """The instance's files and the path of ``web1/etc/hosts``. Raises UsageError."""
    name, slash, path = text.partition("/")
    if not name or not slash:
        raise UsageError(f"INSTANCE/PATH is expected, not {text!r}", hint="for example web1/etc/hosts")
    return context.client.instances.files(name), "/" + path


def push(context: Context) -> None:
    """Copy files into an instance."""
    from isola.cli.transfer import Owner, push_all

    *sources, target = _several(context)
    files, path = place(context, target)
    args = context.args
    owner = Owner(args.number("uid"), args.number("gid"), args.number("mode", base=8))
    push_all(files, sources, path, owner, recursive=args.flag("recursive"), parents=args.flag("create-dirs"))


def pull(context: Context) -> None:
    """Copy files out of an instance."""
    from isola.cli.transfer import pull_all

    *sources, target = _several(context)
    places = [place(context, source) for source in sources]
    pull_all(places, target, recursive=context.args.flag("recursive"), parents=context.args.flag("create-dirs"))


def _several(context: Context) -> list[str]:
    paths = context.args.many("PATHS")
    if len(paths) < 2:
        raise UsageError("Name at least one source and the target")
    return paths


def show(context: Context) -> None:
    """Print a file, or the names in a directory."""
    files, path = place(context, context.args.text("INSTANCE/PATH"))
    from isola.client.writing import write_all

    with files.follow(path) as entry:
        sys.stdout.flush()
        if entry.kind == "directory":
            for name in entry.names():
                context.write(name)
        else:
            for piece in entry:
                write_all(1, piece)


def edit(context: Context) -> None:
    """Edit a file of an instance with the editor of this host."""
    from isola.cli.keys import edited

    files, path = place(context, context.args.text("INSTANCE/PATH"))
    before = files.read(path).decode("utf-8", "surrogateescape")
    after = edited(before, path) if os.isatty(0) else sys.stdin.read()
    if after != before:
        files.write(path, after.encode("utf-8", "surrogateescape"))


def make_directory(context: Context) -> None:
    """Create a directory inside."""
    from isola.cli.transfer import OPEN_DIRECTORY, Owner, make_parents, needing_directories

    files, path = place(context, context.args.text("INSTANCE/PATH"))
    args = context.args
    owner = Owner(args.number("uid"), args.number("gid"), args.number("mode", base=8))
    if args.flag("create-dirs"):
        make_parents(files, path)
    mode = OPEN_DIRECTORY if owner.mode is None else owner.mode
    with needing_directories(files, path):
        files.make_directory(path, uid=owner.uid, gid=owner.gid, mode=mode)


def delete(context: Context) -> None:
    """Delete files inside."""
    for text in context.args.many("INSTANCE/PATH"):
        files, path = place(context, text)
        if context.args.flag("recursive"):
            files.delete_tree(path)
        else:
            files.delete(path)


def mount(context: Context) -> int:
    """Mount a directory of an instance here, until it is unmounted or interrupted."""
    from isola.cli.mounting import mount as mount_here

    text, target = context.args.text("INSTANCE/PATH"), context.args.text("TARGET")
    files, path = place(context, text)
    return mount_here(files, path, target, text.partition("/")[0], context.say)


_RECURSIVE = Option("-r --recursive", "Copy or delete directories with their contents")
_PARENTS = Option("-p --create-dirs", "Create missing parent directories")

COMMANDS = (
    Group(
        "file",
        "Files inside instances",
        Command(
            "push",
            "Copy files into an instance",
            push,
            Argument("PATHS", "Sources (- is standard input), then the target", many=True, complete="paths-or-files"),
            _RECURSIVE,
            _PARENTS,
            *_OWNER,
            examples=(
                ("isola file push -p index.html web1/srv/www/", "into a directory, created if it is missing"),
                ("isola file push -r site web1/srv --uid 33 --gid 33", "a directory, owned by www-data"),
                ("echo hello | isola file push - web1/etc/motd", "standard input"),
            ),
        ),
        Command(
            "pull",
            "Copy files out of an instance",
            pull,
            Argument("PATHS", "INSTANCE/PATH of the sources, then the target (- is standard output)", many=True,
                     complete="paths-or-files"),
            _RECURSIVE,
            _PARENTS,
            examples=(
                ("isola file pull web1/etc/hosts .", "into this directory"),
                ("isola file pull -r web1/var/log logs", "a directory"),
                ("isola file pull web1/etc/os-release -", "to standard output"),
            ),
        ),
        Command(
            "show", "Print a file, or the names in a directory", show, _INSIDE, aliases=("cat", "ls"),
            examples=(("isola file show web1/etc/os-release", "its text"),),
        ),
        Command(
            "edit", "Edit a file inside in $EDITOR", edit, _INSIDE,
            examples=(("isola file edit web1/etc/hosts", "in your editor"),),
        ),
        Command(
            "mkdir", "Make a directory inside", make_directory, _INSIDE, _PARENTS, *_OWNER,
            examples=(("isola file mkdir -p web1/srv/www/img", "with its parent directories"),),
        ),
        Command(
            "delete", "Delete files inside", delete,
            Argument(_INSIDE.name, "One or several", many=True, complete="files"), _RECURSIVE, aliases=("rm",),
            examples=(("isola file delete -r web1/tmp/build", "a directory with its contents"),),
        ),
        Command(
            "mount", "Mount a directory of an instance here, with sshfs", mount, _INSIDE,
            Argument("TARGET", "An empty directory of this machine", complete="paths"),
            examples=(("isola file mount web1/srv /mnt", "until Ctrl-C, or umount /mnt"),),
        ),
    ),
)  # fmt: skip
