"""The command ``isola``.

The installation starts it with ``python3 -IS``, which takes 7 ms instead of 10: ``-I`` ignores PYTHONPATH and the
current directory, ``-S`` skips ``site``, so the launcher adds the path (``install/bundled-launcher.in``).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from isola.cli.arguments import Value
    from isola.cli.grammar import Command, Group

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141


def main() -> NoReturn:
    """Run the process's argv, and end the process with the command's exit status."""
    import gc
    import posix

    from isola.cli import streams

    gc.disable()  # the process is short-lived: collecting garbage costs more than it frees
    streams.prepare()
    status = streams.finish(run(sys.argv[1:]), closed=PIPE_CLOSED, report=_report)
    posix._exit(status)  # skips the interpreter's teardown, which has nothing to clean up


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status; errors have been shown."""
    try:
        return _dispatch(list(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception as error:
        return _report(error)


def _report(error: Exception) -> int:
    from isola.cli.failures import report

    return report(error)


def _dispatch(arguments: list[str]) -> int:
    from isola.cli.parsing import joined, parse, split_globals

    values, arguments = split_globals(arguments)
    if values.get("version"):
        return _version()
    if not arguments or arguments[0] == "help":
        return _help(arguments[1:])
    if values.get("help"):
        return _help(arguments)
    command, arguments, given = _find(arguments)
    if command is None:
        return _help(arguments)
    values = joined(joined(values, given), parse(command, arguments))
    if values.get("help"):
        return _show_help(command)
    return _run(command, values)


def _run(command: Command, values: dict[str, Value]) -> int:
    from isola.cli.arguments import Arguments, UsageError
    from isola.cli.context import Context
    from isola.cli.elsewhere import choose

    elsewhere, values = choose(command, values)
    context = Context(Arguments(values), elsewhere)
    try:
        return command.run(context) or OK
    except UsageError as error:
        error.command = error.command or command
        raise
    finally:
        context.close()


def _find(arguments: list[str]) -> tuple[Command | None, list[str], dict[str, Value]]:
    """The command named by the first arguments, the remaining ones, and options between noun and verb.

    None for a noun without a verb; then the arguments name the noun.
    """
    from isola.cli import index
    from isola.cli.arguments import UsageError
    from isola.cli.grammar import Group

    found = index.find(arguments[0])
    if found is None:
        from isola.cli.parsing import near

        hint = near(arguments[0], [*index.names(), *index.ALIASES]) or "isola --help shows all commands"
        raise UsageError(f"Unknown command {arguments[0]!r}", hint=hint)
    place = 1
    values: dict[str, Value] = {}
    while isinstance(found, Group):
        if found.options and len(arguments) > place:
            from isola.cli.parsing import split_globals

            values, rest = split_globals(arguments[place:], found.options)
            if values.get("help"):
                return None, arguments[:place], values
            arguments = [*arguments[:place], *rest]
        if len(arguments) == place or arguments[place] in ("-h", "--help"):
            return None, arguments[:place], values
        above, found = found, found.find(arguments[place])
        if found is None:
            from isola.cli.parsing import near

            hint = near(arguments[place], [command.name for command in above.commands])
            if above.default and not hint and not arguments[place].startswith("-"):
                found, place = above.find(above.default), place - 1
        if found is None:
            raise UsageError(f"Unknown command '{above.path} {arguments[place]}'", hint=hint, command=above)
        place += 1
    return found, arguments[place:], values


def _help(arguments: list[str]) -> int:
    from isola.cli import index
    from isola.cli.arguments import UsageError
    from isola.cli.grammar import Group
    from isola.cli.help import overview

    if not arguments:
        sys.stdout.write(overview())
        return OK
    found = index.find(arguments[0])
    for argument in arguments[1:]:
        if not isinstance(found, Group) or found.find(argument) is None:
            break
        found = found.find(argument)
    if found is None:
        raise UsageError(f"Unknown command {arguments[0]!r}", hint="isola --help shows all commands")
    return _show_help(found)


def _version() -> int:
    from isola import __version__

    sys.stdout.write(f"isola {__version__}\n")
    return OK


def _show_help(command: Command | Group) -> int:
    from isola.cli.help import describe

    sys.stdout.write(describe(command))
    return OK


if __name__ == "__main__":
    main()
