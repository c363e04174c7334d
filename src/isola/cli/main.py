"""The command ``isola``.

The quickest way to start it (7 ms of interpreter instead of 10) skips the site module and the user's environment, as
this launcher does::

    #!/opt/isola/bin/python -IS
    import sys
    sys.path.append("/opt/isola/lib/python3.11/site-packages")  # wherever the package lies
    from isola.cli.main import main
    main()

``-I`` keeps PYTHONPATH and the current directory out, ``-S`` skips ``site`` (so the path is named by hand). The package
must be byte-compiled.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from isola.cli.grammar import Command, Group, Value

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141


def main() -> NoReturn:
    """Run the words the process was started with, and end the process with their status."""
    import gc
    import os

    from isola.cli import streams

    gc.disable()  # a run is short; collecting what is about to be thrown away is not worth its time
    streams.prepare()
    status = streams.finish(run(sys.argv[1:]), closed=PIPE_CLOSED)
    os._exit(status)  # nothing is left to be torn down


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit status; errors have been shown."""
    try:
        return _dispatch(list(words))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception as error:
        from isola.cli.failures import report

        return report(error)


def _dispatch(words: list[str]) -> int:
    from isola.cli.parsing import parse, split_globals

    values, words = split_globals(words)
    if values.get("version"):
        return _version()
    if not words or words[0] == "help":
        return _help(words[1:])
    if values.get("help"):
        return _help(words)
    command, words = _find(words)
    if command is None:
        return _help(words)
    values = {**values, **parse(command, words)}
    if values.get("help"):
        return _show_help(command)
    return _run(command, values)


def _run(command: Command, values: dict[str, Value]) -> int:
    from isola.cli.context import Context
    from isola.cli.elsewhere import choose
    from isola.cli.grammar import Arguments, UsageError

    elsewhere, values = choose(command, values)
    context = Context(Arguments(values), elsewhere)
    try:
        return command.run(context) or OK
    except UsageError as error:
        error.command = error.command or command
        raise
    finally:
        context.close()


def _find(words: list[str]) -> tuple[Command | None, list[str]]:
    """The command named by the first words, and the words behind; None where a noun stands without its verb."""
    from isola.cli import index
    from isola.cli.grammar import Group, UsageError

    found = index.find(words[0])
    if found is None:
        from isola.cli.parsing import near

        hint = near(words[0], [*index.names(), *index.ALIASES]) or "isola --help shows all commands"
        raise UsageError(f"Unknown command {words[0]!r}", hint=hint)
    place = 1
    while isinstance(found, Group):
        if len(words) == place or words[place] in ("-h", "--help"):
            return None, words[:place]
        above, found = found, found.find(words[place])
        if found is None:
            from isola.cli.parsing import near

            hint = near(words[place], [command.name for command in above.commands])
            raise UsageError(f"Unknown command '{above.path} {words[place]}'", hint=hint, command=above)
        place += 1
    return found, words[place:]


def _help(words: list[str]) -> int:
    from isola.cli import index
    from isola.cli.grammar import Group, UsageError
    from isola.cli.help import overview

    if not words:
        sys.stdout.write(overview())
        return OK
    found = index.find(words[0])
    for word in words[1:]:
        if not isinstance(found, Group) or found.find(word) is None:
            break
        found = found.find(word)
    if found is None:
        raise UsageError(f"Unknown command {words[0]!r}", hint="isola --help shows all commands")
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
