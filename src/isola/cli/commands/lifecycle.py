"""``start stop restart pause resume rename delete``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Option
from isola.cli.readiness import OPTIONS as WAIT_OPTIONS
from isola.cli.readiness import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isola.cli.context import Context
    from isola.client.instances import Instances
    from isola.client.operations import Operation

    Begin = Callable[[str], Operation]

_NAMES = Argument("NAME", "One instance or several", many=True, optional=True, complete="instances")
_ALL = Option("-a --all", "All instances in a suitable state")
_FORCE = Option("-f --force", "Kill it instead of requesting a shutdown")
_TIMEOUT = Option(
    "--timeout", "Seconds to wait for a clean stop; -1 waits without limit", value="SECONDS", default="30"
)


def _verb(
    participle: str, applicable: Sequence[str], begin: Callable[[Context, Instances], Begin], done: str
) -> Callable[[Context], int]:
    """A verb over several instances: starts all operations, then waits for all."""

    def run(context: Context) -> int:
        names = _chosen(context, applicable)
        ready = (lambda name: wait(context, name)) if context.args.given("wait") else None
        return each(context, names, begin(context, context.client.instances), participle, done, ready=ready)

    return run


def _chosen(context: Context, applicable: Sequence[str]) -> list[str]:
    names = context.args.many("NAME")
    if context.args.flag("all"):
        if names:
            raise UsageError("Names and --all exclude each other")
        found = context.client.instances.all()
        return [item["name"] for item in found if item.get("status") in applicable]
    if not names:
        raise UsageError("NAME is missing", hint="name one or more instances, or use --all")
    return list(dict.fromkeys(names))


def each(
    context: Context,
    names: Sequence[str],
    begin: Begin,
    participle: str,
    done: str,
    *,
    ready: Callable[[str], str] | None = None,
    what: str = "",
) -> int:
    """Start the operation of every name, then wait for all; one failure does not stop the others.

    ``ready`` waits for more than the operation, and returns the state to print. ``what`` is the noun in messages.
    """
    title = f"{what.capitalize()} " if what else ""
    if len(names) > 1:
        context.client.wait_seconds = 0  # all are started before the first one is waited for
    begun: list[tuple[str, Operation]] = []
    failed = 0
    for name in names:
        try:
            begun.append((name, begin(name)))
        except Exception as error:
            failed += _failed(error, len(names))
    while begun:
        name, operation = begun.pop(0)
        try:
            context.follow(operation, f"{participle} {name}")
            context.say(f"{title}{name} {ready(name) if ready else done}")
        except KeyboardInterrupt:
            _cancel([operation for _, operation in begun])
            raise
        except Exception as error:
            failed += _failed(error, len(names))
    return 1 if failed else 0


def _cancel(operations: Sequence[Operation]) -> None:
    """Cancel the other operations; Ctrl-C has cancelled one already. Those that cannot be cancelled finish."""
    from contextlib import suppress

    from isola.errors import IsolaError

    for operation in operations:
        with suppress(IsolaError):
            operation.cancel()
    for operation in operations:
        with suppress(IsolaError):
            operation.wait()


def _failed(error: Exception, of: int) -> int:
    from isola.errors import IsolaError

    if of == 1 or not isinstance(error, IsolaError):
        raise error
    from isola.cli.failures import report

    return report(error) and 1


def _start(context: Context, instances: Instances) -> Begin:
    stateless = context.args.flag("stateless")
    return lambda name: instances.start(name, stateless=stateless)


def _pause(context: Context, instances: Instances) -> Begin:
    return instances.pause


def _resume(context: Context, instances: Instances) -> Begin:
    return instances.resume


def _stop(context: Context, instances: Instances) -> Begin:
    if context.args.flag("stateful"):
        return instances.save
    how = _how(context)
    return lambda name: instances.stop(name, force=how[0], timeout=how[1])


def _restart(context: Context, instances: Instances) -> Begin:
    how = _how(context)
    return lambda name: instances.restart(name, force=how[0], timeout=how[1])


def _how(context: Context) -> tuple[bool, int]:
    timeout = context.args.number("timeout", 30)
    return context.args.flag("force"), 30 if timeout is None else timeout


def _delete(context: Context, instances: Instances) -> Begin:
    force = context.args.flag("force")

    def begin(name: str) -> Operation:
        instance, slash, snapshot = name.partition("/")
        return instances.delete_snapshot(instance, snapshot) if slash else instances.delete(name, force=force)

    return begin


def rename(context: Context) -> None:
    """Rename an instance or a snapshot."""
    old, new = context.args.text("NAME"), context.args.text("NEW")
    instance, slash, snapshot = old.partition("/")
    instances = context.client.instances
    if slash:
        new = new.removeprefix(f"{instance}/")
        context.follow(instances.rename_snapshot(instance, snapshot, new), f"Renaming {old}")
    else:
        context.follow(instances.rename(old, new), f"Renaming {old}")
    context.say(f"{old} is renamed to {new}")


_STOPPED, _RUNNING, _FROZEN = ("Stopped",), ("Running", "Starting"), ("Frozen",)
_ANY = ("Running", "Starting", "Stopped", "Frozen", "Error")

COMMANDS = (
    Command(
        "start",
        "Start instances",
        _verb("Starting", _STOPPED, _start, "is running"),
        _NAMES,
        _ALL,
        Option("--stateless", "Discard the state that `isola stop --stateful` has saved"),
        *WAIT_OPTIONS,
        examples=(
            ("isola start web1 web2", "two of them"),
            ("isola start --all", "all that are stopped"),
            ("isola start db1 --wait 5432", "and wait until that TCP port accepts connections"),
        ),
    ),
    Command(
        "stop",
        "Stop instances",
        _verb("Stopping", (*_RUNNING, *_FROZEN), _stop, "is stopped"),
        _NAMES,
        _ALL,
        _FORCE,
        _TIMEOUT,
        Option("--stateful", "Save its memory, from which the next start continues (not for containers)"),
        examples=(
            ("isola stop web1", "a clean shutdown"),
            ("isola stop web1 --force", "at once"),
            ("isola stop --all --timeout 10", "everything"),
            ("isola stop box1 --stateful", "`isola start box1` continues its programs"),
        ),
    ),
    Command(
        "restart",
        "Restart instances",
        _verb("Restarting", _RUNNING, _restart, "is running"),
        _NAMES,
        _ALL,
        _FORCE,
        _TIMEOUT,
        *WAIT_OPTIONS,
        examples=(
            ("isola restart web1", "a clean stop, then a start"),
            ("isola restart db1 --wait 'pg_isready -q'", "and wait until that command succeeds inside"),
        ),
    ),
    Command(
        "pause",
        "Freeze instances",
        _verb("Pausing", ("Running",), _pause, "is paused"),
        _NAMES,
        _ALL,
        aliases=("freeze",),
        examples=(("isola pause web1", "its processes are frozen"),),
    ),
    Command(
        "resume",
        "Resume paused instances",
        _verb("Resuming", _FROZEN, _resume, "is running"),
        _NAMES,
        _ALL,
        aliases=("unfreeze",),
        examples=(("isola resume web1", "its processes continue"),),
    ),
    Command(
        "rename",
        "Rename an instance",
        rename,
        Argument("NAME", "Its present name", complete="instances"),
        Argument("NEW", "The new name"),
        examples=(("isola rename web1 web2", "web1 becomes web2"),),
    ),
    Command(
        "delete",
        "Delete instances with their data",
        _verb("Deleting", _ANY, _delete, "is deleted"),
        _NAMES,
        _ALL,
        Option("-f --force", "Also delete running ones"),
        aliases=("rm",),
        examples=(
            ("isola delete web1", "a stopped one"),
            ("isola delete web1 --force", "running or not"),
            ("isola delete --all --force", "everything"),
        ),
    ),
)
