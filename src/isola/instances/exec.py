"""Run a command inside an instance."""

from __future__ import annotations

import dataclasses

from isola.errors import Forbidden, InvalidInput, IsolaError, WrongState
from isola.instances.configuration import environment, expanded
from isola.instances.context import Context
from isola.instances.linking import link_variables
from isola.instances.phases import RunState
from isola.instances.program import configured
from isola.instances.running import require_live
from isola.instances.settings import SETTINGS
from isola.model.caller import Caller
from isola.model.capabilities import EVERY, granted
from isola.model.exec import ExecRequest
from isola.model.instance import Instance
from isola.runtimes import ExecSpec, Execution, users

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_STARTED = 126
"""Exit status of a command that could not be started, as in a shell."""


def check(context: Context, instance: Instance, request: ExecRequest) -> None:
    """Raises WrongState, InvalidInput."""
    require_ready(context, instance)
    if not request.command or not request.command[0]:
        raise InvalidInput("No command was given", field="command", remedy="give at least the program's name")
    if any("\0" in text for text in (*request.command, *request.environment, *request.environment.values())):
        raise InvalidInput("The command or its environment contains NUL", field="command")
    if request.every_capability:
        _require_confined(context, instance)


def _require_confined(context: Context, instance: Instance) -> None:
    """Further capabilities are harmless in a user namespace, and nothing new in a fully privileged instance."""
    config, _ = expanded(context, instance)
    if config.get("security.privileged") == "true" and config.get("isola.privileged") != "true":
        raise Forbidden(
            "Commands of this instance cannot have more privileges than its first process",
            evidence="it has no user namespace of its own",
            remedy="create it with isola.privileged, where that is allowed",
        )


def require_ready(context: Context, instance: Instance) -> None:
    """Check that a command can be started. Raises WrongState."""
    if require_live(context, instance).state is RunState.FROZEN:
        raise WrongState(f"Instance {instance.name!r} is frozen", remedy="unfreeze it first")


async def require_user(context: Context, instance: Instance, request: ExecRequest) -> None:
    """Check that its user is known inside now, which may change until the start. Raises WrongState, InvalidInput."""
    require_ready(context, instance)
    await _who(context, instance, _as_program(context, instance, request))


async def begin(context: Context, instance: Instance, request: ExecRequest, caller: Caller, *, id: str) -> Execution:
    """Run it, and tell. Raises WrongState, InvalidInput."""
    execution = await run(context, instance, request)
    context.tell("exec", instance.ref, caller=caller, command=list(request.command), id=id)
    return execution


async def run(context: Context, instance: Instance, request: ExecRequest) -> Execution:
    """Raises WrongState, InvalidInput."""
    if request.cwd and not request.cwd.startswith("/"):
        raise InvalidInput("The directory of a command must be an absolute path", field="cwd")
    request = _as_program(context, instance, request)
    who = await _who(context, instance, request)
    spec = spec_of(context, instance, request, who, await _home(context, instance, request, who.uid))
    context.working_runtime(instance)
    return await require_live(context, instance).guest.exec(spec)


def _as_program(context: Context, instance: Instance, request: ExecRequest) -> ExecRequest:
    """Without a user: that of its program, its directory, and a terminal type as its program has one."""
    if request.user is not None:
        return request
    begins = configured(instance.start, expanded(context, instance)[0])
    variables = {"TERM": "xterm"} if request.interactive else {}
    return dataclasses.replace(
        request,
        user=begins.user,
        cwd=request.cwd or begins.cwd,
        environment=variables | dict(request.environment),
    )


async def _home(context: Context, instance: Instance, request: ExecRequest, uid: int) -> str:
    """The default working directory of a command; root's home is determined once per run."""
    live = require_live(context, instance)
    if request.cwd or uid != 0 or not instance.start.system:
        return "/"
    if not live.home:
        try:
            async with live.guest.files() as root:
                live.home = "/root" if (await root.stat("/root")).kind == "directory" else "/"
        except IsolaError:
            return "/"
    return live.home


async def _who(context: Context, instance: Instance, request: ExecRequest) -> users.User:
    """User and groups as numbers; names and groups are resolved by the instance's own files."""
    user, group = request.user, request.group
    further = _further_groups(context, instance) if group is None else ()
    if user in (0, "root") and not further:
        return users.User(0, group or 0)
    if isinstance(user, int) and group is not None:
        return users.User(user, group, home="")
    found = await users.of_guest(require_live(context, instance).guest, str(user or 0), further)
    return found if group is None else dataclasses.replace(found, gid=group, groups=())


def _further_groups(context: Context, instance: Instance) -> tuple[str, ...]:
    """Those that the program of an application container has beside its user's, and its commands too."""
    found = SETTINGS.value(expanded(context, instance)[0], "isola.groups")
    return found if isinstance(found, tuple) and not instance.start.system else ()


def _of_system(who: users.User) -> dict[str, str]:
    """As after a login."""
    found = {"PATH": _PATH, "LANG": "C.UTF-8"}
    if who.uid == 0:
        return found | {"HOME": "/root", "USER": "root"}
    return found | ({"HOME": who.home} if who.home else {})


def _of_program(context: Context, instance: Instance, who: users.User) -> dict[str, str]:
    """Those that the engine gives to the first process too."""
    plan = require_live(context, instance).guest.plan
    found = {"PATH": _PATH} | ({"HOSTNAME": plan.hostname} if plan is not None else {})
    return found | ({"HOME": "/root" if who.uid == 0 else who.home} if who.home or who.uid == 0 else {})


def spec_of(context: Context, instance: Instance, request: ExecRequest, who: users.User, home: str) -> ExecSpec:
    """The spec for the runtime: options of the client override those of the instance, which override the defaults."""
    config, _ = expanded(context, instance)
    defaults = _of_system(who) if instance.start.system else _of_program(context, instance, who)
    own = link_variables(context, instance, config) | environment(config, instance.start.environment)
    variables = defaults | own | dict(request.environment)
    return ExecSpec(
        command=request.command,
        environment=variables,
        cwd=request.cwd or home,
        user=who.uid,
        group=who.gid,
        groups=who.groups,
        terminal=request.interactive,
        width=request.width,
        height=request.height,
        capabilities=_every_capability(context) if request.every_capability else None,
    )


def _every_capability(context: Context) -> tuple[str, ...]:
    return granted(system=False, bounding=context.host.system.capabilities(), add=(EVERY,))
