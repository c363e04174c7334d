"""``isola deploy`` and ``isola rollback``."""

from __future__ import annotations

import os

from isola.cli.arguments import UsageError
from isola.cli.commands import build as build_verb
from isola.cli.commands.create import OPTIONS as CREATE_OPTIONS
from isola.cli.commands.create import given
from isola.cli.grammar import Argument, Command, Option
from isola.cli.publishing import published

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isola.cli.context import Context
    from isola.client.operations import Operation

_SECONDS = {"timeout": "timeout", "settle": "settle", "drain": "drain", "stop-timeout": "stop_timeout"}
_STATES = {"done": "serves", "failed": "failed", "untouched": "as before", "running": "interrupted"}


def deploy(context: Context) -> int:
    """Build an image or take one, and let a version made from it serve."""
    args = context.args
    image, places = args.text("image"), list(args.many("TARGET"))
    path = "" if image else (places.pop(0) if places else ".")
    chosen = _chosen(context, places)
    if not chosen:
        if image:
            raise UsageError("NAME is missing", hint="name instances, or choose them by --select or --made-from")
        chosen = {"instances": [_name_of(path)]}
    terms, version = _terms(context), _version(context)
    if not image:
        names = args.many("tag") or [_tag(chosen)]
        image, status = _build(context, path, names)
        if status:
            return status
    operation = context.client.deployments.deploy(image, version=version, terms=terms, **chosen)  # type: ignore[arg-type]
    return _follow(context, operation, "Deploying", f"version {image[:12]}")


def rollback(context: Context) -> int:
    """Let the previous version serve again."""
    chosen = _chosen(context, list(context.args.many("NAME")))
    if not chosen:
        raise UsageError("NAME is missing", hint="name instances, or choose them by --select or --made-from")
    if context.args.given("to"):
        return _return_to(context, chosen, context.args.text("to"))
    operation = context.client.deployments.rollback(terms=_terms(context), **chosen)  # type: ignore[arg-type]
    return _follow(context, operation, "Rolling back", "the previous version")


def _return_to(context: Context, chosen: Mapping[str, object], version: str) -> int:
    """To the version that is kept, or to a new one made from the image of an earlier one."""
    from isola.cli.commands.versions import image_of

    names = chosen.get("instances")
    if not isinstance(names, list) or len(names) != 1:
        raise UsageError("--to is for one instance", hint="isola rollback NAME --to VERSION")
    image, kept = image_of(context, names[0], version)
    deployments, terms = context.client.deployments, _terms(context)
    if kept:
        operation = deployments.rollback(instances=names, terms=terms)
    else:
        operation = deployments.deploy(image, instances=names, terms=terms)
    return _follow(context, operation, "Rolling back", f"version {version}")


def _chosen(context: Context, names: Sequence[str]) -> dict[str, object]:
    args = context.args
    found: dict[str, object] = {"instances": list(dict.fromkeys(names))} if names else {}
    if args.given("select"):
        found["filter"] = args.text("select")
    if args.given("made-from"):
        found["made_from"] = args.text("made-from")
    if len(found) > 1:
        raise UsageError("Names, --select and --made-from exclude each other")
    return found


def _terms(context: Context) -> dict[str, object]:
    args = context.args
    found: dict[str, object] = {"strategy": args.text("strategy")} if args.given("strategy") else {}
    found.update({key: args.number(option) for option, key in _SECONDS.items() if args.given(option)})
    if args.given("waves"):
        found["waves"] = [wave.strip() for wave in args.text("waves").split(",")]
    if args.given("parallel"):
        found["parallel"] = args.number("parallel")
    return found


def _version(context: Context) -> dict[str, object]:
    args = context.args
    config, devices = given(context)
    config.update({f"environment.{key}": value for key, value in args.pairs("env").items()})
    devices.update(dict(map(published, args.many("publish"))))
    devices.update(_volumes(context))
    found: dict[str, object] = {"config": config, "devices": devices}
    if args.flag("no-profiles") or args.given("profile"):
        found["profiles"] = [] if args.flag("no-profiles") else args.many("profile")
    for option in ("description", "isolation", "runtime"):
        if args.given(option):
            found[option] = args.text(option)
    return found


def _volumes(context: Context) -> dict[str, dict[str, str]]:
    """Devices of ``--volume``; a volume that is missing is made."""
    from isola.cli.publishing import mounted

    found: dict[str, dict[str, str]] = {}
    for text in context.args.many("volume"):
        name, device = mounted(text)
        if not device["source"].startswith(("/", "image:")):
            device["pool"] = context.args.text("storage") or _pool(context)
            _require_volume(context, device["pool"], device["source"])
        found[name] = device
    return found


def _pool(context: Context) -> str:
    """That of the root of the default profile."""
    devices = context.client.profiles.get("default")["devices"].values()
    for device in devices:
        if device.get("type") == "disk" and device.get("path") == "/":
            return device["pool"]
    raise UsageError("The default profile has no root disk", hint="name a pool with --storage")


def _require_volume(context: Context, pool: str, name: str) -> None:
    from isola.errors import AlreadyExists

    try:
        context.follow(context.client.volumes.create(pool, name, {}), f"Creating {name}")
    except AlreadyExists:
        return
    context.say(f"Volume {name} is created")


def _build(context: Context, path: str, names: Sequence[str]) -> tuple[str, int]:
    """The fingerprint of the built image, and the status of the command if it failed."""
    from isola.cli.build_context import BuildContext

    found = BuildContext(path, context.args.text("file"))
    show = build_verb.Shown(context, quiet=context.quiet, plain=context.args.text("progress") == "plain", names=names)
    status = show.run(context.client.builds.run(build_verb.options(context, found.dockerfile, names), found.stream()))
    return show.fingerprint, status


def _name_of(path: str) -> str:
    """The name of the directory, as far as an instance can be called so."""
    import re

    name = re.sub(r"[^A-Za-z0-9-]+", "-", os.path.basename(os.path.realpath(path))).strip("-")
    if not name or not name[0].isalpha():
        raise UsageError(f"An instance cannot be called {name!r} as the directory", hint="isola deploy PATH NAME")
    return name[:63].rstrip("-")


def _tag(chosen: Mapping[str, object]) -> str:
    """``web:20261122-093000``, so that a version can be deployed again."""
    import time

    names = chosen.get("instances")
    name = names[0].lower() if isinstance(names, list) else "fleet"
    return f"{name}:{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def _follow(context: Context, operation: Operation, doing: str, what: str) -> int:
    """Wait, and show each instance of a fleet also when one has failed."""
    name = operation.resource("instances")
    several = len((operation.info.get("resources") or {}).get("instances") or []) > 1
    try:
        context.follow(operation, f"{doing} {'instances' if several else name}")
    finally:
        states = operation.metadata.get("instances")
        if isinstance(states, dict):
            _report(context, states)
    if context.args.text("format") == "json" and not isinstance(operation.metadata.get("instances"), dict):
        _report(context, {name: {"status": "done", "error": ""}})
    elif not isinstance(operation.metadata.get("instances"), dict):
        before = operation.metadata.get("previous")
        kept = f"; isola rollback {name} returns to {before}" if before else ""
        context.say(f"{name}: {what} serves{kept}")
    return 0


def _report(context: Context, states: Mapping[str, Mapping[str, str]]) -> None:
    if context.args.text("format") == "json":
        from isola.cli.output import document

        document(context, {name: dict(state) for name, state in states.items()}, "json")
        return
    from isola.cli.table import draw

    rows = [[name, _STATES.get(state["status"], state["status"]), state["error"]] for name, state in states.items()]
    context.write(draw(["NAME", "STATE", "ERROR"], rows).rstrip("\n"))


_HOW = (
    Option("--strategy", "stop-first: stop the old version before the new one is started", value="HOW",
           choices=("beside", "stop-first")),
    Option("--timeout", "Time in which the version must be healthy", value="SECONDS", default="120"),
    Option("--settle", "How long a version without a health check must run", value="SECONDS", default="3"),
    Option("--drain", "Longest time that connections of the old version have to end", value="SECONDS",
           default="10"),
    Option("--stop-timeout", "Time in which the old version must end, before it is killed", value="SECONDS",
           default="30"),
    Option("--select", "All instances to which a filter applies, as in 'config.user.role eq web'", value="FILTER"),
    Option("--made-from", "All instances that were made from an image", value="IMAGE", complete="images"),
    Option("--waves", "How many are updated after each wave: 1,10%,100%", value="WAVES"),
    Option("--parallel", "How many are updated at the same time (default: 1)", value="NUMBER"),
    Option("--format", "Format of the report", value="FORMAT", choices=("table", "json")),
)  # fmt: skip
_TAKEN = {name for option in _HOW for name in option.names} | {"--ephemeral", "--file", "-e", "-t"}
COMMANDS = (
    Command(
        "deploy",
        "Deploy a new version of an instance, which takes over once it is healthy",
        deploy,
        Argument("TARGET", "PATH and NAMEs; with --image only NAMEs", many=True, optional=True, complete="paths"),
        Option("--image", "Deploy this image instead of building one", value="IMAGE", complete="images"),
        Option("-t --tag", "A name for the built image (default: NAME:DATE-TIME)", value="NAME", repeat=True),
        Option("-f --file", "The Dockerfile (default: PATH/Dockerfile)", value="FILE", complete="paths"),
        Option(
            "--build-arg",
            "A build argument; NAME alone takes the environment variable",
            value="NAME=VALUE",
            repeat=True,
        ),
        Option("--target", "The stage to build (default: the last one)", value="STAGE"),
        Option("--no-cache", "Execute all instructions, without the cache"),
        Option("--pull", "Fetch base images again"),
        Option("--secret", "For RUN --mount=type=secret: id=ID,src=FILE, or env=NAME", value="SECRET", repeat=True),
        Option("--label", "A label of the image", value="KEY=VALUE", repeat=True),
        Option("--platform", "The platform of base images (default: the daemon's)", value="OS/ARCH"),
        Option("--progress", "plain: all output of the build", value="HOW", choices=("auto", "plain")),
        Option("--publish", "A port of the host: [ADDRESS:]PORT[:PORT][/udp]", value="PORTS", repeat=True),
        Option(
            "--volume",
            "A volume, a directory of the host, or an image: NAME:/PATH[:ro], image:NAME:/PATH",
            value="VOLUME",
            repeat=True,
        ),
        Option("--env", "A variable of its environment", value="NAME=VALUE", repeat=True),
        *(option for option in CREATE_OPTIONS if not set(option.names) & _TAKEN),
        *_HOW,
        examples=(
            ("isola deploy . web --publish 8080:80", "the directory's Dockerfile, built and serving as web"),
            ("isola deploy --image app:2 web", "an existing image"),
            ("isola deploy --image app:2 --made-from app:1 --waves 1,10%,100%", "a fleet, first one, then a tenth"),
        ),
    ),
    Command(
        "rollback",
        "Return to the previous version of an instance",
        rollback,
        Argument("NAME", "One instance or several", many=True, optional=True, complete="instances"),
        Option("--to", "An earlier version, as isola versions lists them", value="VERSION"),
        *_HOW,
        examples=(
            ("isola rollback web", "the previous version is started, and serves when it is healthy"),
            ("isola rollback web --to web:20261122-093000", "an earlier one, by its image"),
            ("isola rollback --select 'config.user.role eq web' --parallel 5", "those that were deployed last"),
        ),
    ),
)
