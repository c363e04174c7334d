"""Verbs of ``isola compose`` that change how services run."""

from __future__ import annotations

from isola.cli.compose.commands.chosen import SERVICES, each, instances_of
from isola.cli.grammar import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isola.cli.context import Context
    from isola.client.operations import Operation
    from isola.client.shapes import InstanceInfo

    Verb = Callable[[Context], int]

TIMEOUT = Option(
    "-t --timeout", "Seconds until an instance is killed (default: stop_grace_period, or 10)", value="SECONDS"
)


def start(context: Context) -> int:
    """Start stopped instances, each service after those that it depends on."""
    from isola.cli.compose.conditions import await_condition
    from isola.cli.compose.files import application
    from isola.compose.application import order
    from isola.compose.instances import SERVICE

    found = application(context, context.args.many("SERVICE"))
    stopped = [one for one in instances_of(context) if one["status"] == "Stopped"]
    failed = 0
    for name in order(found, context.args.many("SERVICE")):
        names = [one["name"] for one in stopped if one["config"].get(SERVICE) == name]
        for needed, how in found.needs(name).items() if names else ():
            await_condition(context, found.name, needed, how)
        failed |= each(context, names, context.client.instances.start, "running")
    return failed


def _verb(done: str, statuses: Sequence[str], begin: Callable[[Context, InstanceInfo], Operation]) -> Verb:
    """A verb over the instances of services that have one of the statuses."""

    def run(context: Context) -> int:
        found = instances_of(context, context.args.many("SERVICE"))
        chosen = {one["name"]: one for one in reversed(found) if one["status"] in statuses}
        return each(context, list(chosen), lambda name: begin(context, chosen[name]), done)

    return run


def _stop(context: Context, one: InstanceInfo) -> Operation:
    from isola.cli.compose.down import before_stop
    from isola.cli.compose.down import stop as stop_one
    from isola.cli.compose.files import application

    before_stop(context, application(context), one)
    return stop_one(context, one, context.args.number("timeout"))


def _restart(context: Context, one: InstanceInfo) -> Operation:
    from isola.cli.compose.down import stop_timeout

    seconds = stop_timeout(one, context.args.number("timeout"))
    return context.client.instances.restart(one["name"], timeout=seconds, kill=True)


_LIVE = ("Running", "Frozen")
stop = _verb("stopped", _LIVE, _stop)
_restarted = _verb("restarted", _LIVE, _restart)
_killed = _verb("killed", _LIVE, lambda context, one: context.client.instances.stop(one["name"], force=True))
pause = _verb("paused", ("Running",), lambda context, one: context.client.instances.pause(one["name"]))
unpause = _verb("running", ("Frozen",), lambda context, one: context.client.instances.resume(one["name"]))
_removed = _verb("removed", ("Stopped",), lambda context, one: context.client.instances.delete(one["name"]))


def kill(context: Context) -> int:
    """Kill services, or send another signal to their programs."""
    name = context.args.text("signal") or "KILL"
    if name.upper().removeprefix("SIG") in ("KILL", "9"):
        return _killed(context)
    for one in instances_of(context, context.args.many("SERVICE")):
        if one["status"] == "Running":
            context.client.instances.signal(one["name"], int(name) if name.isdigit() else name)
            context.say(f"{one['name']} received {name}")
    return 0


def rm(context: Context) -> int:
    """Remove stopped instances."""
    from isola.cli.compose.files import application
    from isola.cli.compose.resources import Resources
    from isola.cli.compose.server import facts
    from isola.compose.instances import SERVICE

    if context.args.flag("stop"):
        stop(context)
    found = instances_of(context, context.args.many("SERVICE"))
    status = _removed(context)
    if context.args.flag("volumes") and not status:
        known = application(context, context.args.many("SERVICE"))
        resources = Resources(context, known, facts(context.client).pool)
        for one in found:
            if one["status"] == "Stopped":
                resources.remove_anonymous(one["config"][SERVICE], one["name"])
    return status


def restart(context: Context) -> int:
    """Restart services, and those that depend on them as the file says."""
    from isola.cli.compose.files import application

    named = context.args.many("SERVICE")
    status = _restarted(context)
    if named and not context.args.flag("no-deps"):
        found = application(context)
        more = [
            name
            for name in found.services
            if name not in named and any(how.get("restart") for key, how in found.needs(name).items() if key in named)
        ]
        for one in instances_of(context, more) if more else ():
            if one["status"] in _LIVE:
                context.follow(_restart(context, one), f"Restarting {one['name']}")
                context.say(f"{one['name']} is restarted")
    return status


LIFECYCLE = (
    Command("start", "Start stopped services", start, SERVICES, examples=(("isola compose start web", "one"),)),
    Command("stop", "Stop services", stop, SERVICES, TIMEOUT, examples=(("isola compose stop", "all"),)),
    Command(
        "restart",
        "Restart services",
        restart,
        SERVICES,
        TIMEOUT,
        Option("--no-deps", "Do not restart services that depend on these with restart: true"),
        examples=(("isola compose restart", "all"),),
    ),
    Command(
        "kill",
        "Kill services, or send their programs a signal",
        kill,
        SERVICES,
        Option("-s --signal", "The signal (default: SIGKILL)", value="SIGNAL"),
        examples=(
            ("isola compose kill web", "without a shutdown"),
            ("isola compose kill -s HUP web", "to its program alone"),
        ),
    ),
    Command("pause", "Freeze services", pause, SERVICES, examples=(("isola compose pause web", "one"),)),
    Command("unpause", "Thaw services", unpause, SERVICES, examples=(("isola compose unpause web", "one"),)),
    Command(
        "rm",
        "Remove stopped instances",
        rm,
        SERVICES,
        Option("-s --stop", "Stop running ones first"),
        Option("-f --force", "Accepted for compatibility: there is no confirmation"),
        Option("-v --volumes", "Also remove their anonymous volumes"),
        TIMEOUT,
        examples=(("isola compose rm -s web", "of one service, which is stopped first"),),
    ),
)
