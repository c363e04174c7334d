"""``isola profile learn`` and ``isola profile refusals``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import FORMAT, Column, document, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.shapes import LearnedInfo

_REFUSED = "System call refused"
_MOST_SHOWN = 8
_NAME = "ISOLA_INSTANCE"
"""Variable of the command: what is recorded."""
_REPLACED = ("security.syscalls.allow", "isola.capabilities.", "isola.paths.writable", "isola.ports.", "user.learned.")


def _instance(item: Mapping[str, Any]) -> str:
    return str(item.get("entity_url") or "").partition("?")[0].rpartition("/")[2]


_COLUMNS = (
    Column("INSTANCE", _instance),
    Column("REFUSED", "last_message"),
    Column("LAST SEEN", "last_seen_at"),
)


def learn(context: Context) -> int:
    """Record what an instance uses until the command ends, or Ctrl-C, and write it to a profile."""
    name, image = context.args.text("INSTANCE"), context.args.text("image")
    if bool(name) == bool(image):
        raise UsageError("Either an instance or --image is needed", hint="isola profile learn --image IMAGE")
    if not image and context.args.given("command"):
        raise UsageError("--command is for --image", hint="an instance has its program already")
    return _in_a_new_one(context, image) if image else _learn(context, name)


def _in_a_new_one(context: Context, image: str) -> int:
    """A container that is deleted afterwards, also if this command is killed."""
    from isola.cli.guardian import Guardian
    from isola.client.interpreter import signal

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    config = {"oci.entrypoint": context.args.text("command")} if context.args.given("command") else {}
    # A guardian is needed as soon as the instance exists.
    operation = context.client.instances.create(image=image, config=config, isolation="container", ends=False)
    name = operation.resource("instances")
    guardian = Guardian(context.client, name)
    try:
        context.follow(operation, f"Creating {name}")
        try:
            return _learn(context, name)
        finally:
            context.client.instances.delete(name, force=True).wait()
    finally:
        guardian.relieve()


def _learn(context: Context, name: str) -> int:
    profile, instances = context.args.text("into"), context.client.instances
    instances.begin_learning(name)
    try:
        _begin_program(context, name)
        status = _wait(context, name)
        found = instances.learned(name)
    finally:
        instances.end_learning(name)
    if profile:
        _write(context, profile, found)
    else:
        document(context, found["config"])
    _report(context, found, profile)
    return status


def refusals(context: Context) -> None:
    """Print the system calls and ports that instances were refused."""
    name = context.args.text("INSTANCE")
    found = [each for each in context.client.warnings.all() if each["type"] == _REFUSED]
    show(context, [each for each in found if not name or _instance(each) == name], _COLUMNS)


def _begin_program(context: Context, name: str) -> None:
    """From its first system call on."""
    instances = context.client.instances
    if instances.get(name)["status"] != "Running":
        context.follow(instances.start(name), f"Starting {name}")
    elif not context.args.flag("no-restart"):
        context.follow(instances.restart(name, timeout=10, kill=True), f"Restarting {name}")


def _wait(context: Context, name: str) -> int:
    if command := context.args.text("while"):
        import os
        import subprocess

        context.say(f"Recording what {name} uses while this runs: {command}")
        given = {**os.environ, _NAME: name}
        return subprocess.run(command, shell=True, check=False, env=given).returncode
    import time

    context.say(f"Recording what {name} uses: use everything it must be able to do, then press Ctrl-C")
    of_image = context.args.given("image")
    try:
        while not of_image or context.client.instances.get(name)["status"] == "Running":
            time.sleep(1 if of_image else 60)
    except KeyboardInterrupt:
        pass
    return 0


def _write(context: Context, profile: str, found: LearnedInfo) -> None:
    """Keys and devices that it has for other purposes stay."""
    from isola.errors import NotFound

    profiles = context.client.profiles
    try:
        known, etag = profiles.read(profile)
    except NotFound:
        body = {"config": found["config"], "description": "Learned: what the workload used under test"}
        context.follow(profiles.create(profile, body), f"Creating {profile}")
        return
    kept = {key: value for key, value in known["config"].items() if not key.startswith(_REPLACED)}
    whole = {"config": kept | found["config"], "devices": known["devices"], "description": known["description"]}
    context.follow(profiles.update(profile, whole, etag=etag), f"Changing {profile}")


def _report(context: Context, found: LearnedInfo, profile: str) -> None:
    context.say(
        f"{f'Profile {profile} permits' if profile else 'It used'} {len(found['system_calls'])} system calls; "
        f"capabilities: {', '.join(found['capabilities']) or 'none'}; "
        f"written: {', '.join(found['written']) or 'nothing'}; opened: {_few(found['opened'])}; "
        f"listens on: {', '.join(found['ports']) or 'nothing'}; connects to: {_few(found['connects'] or [])}"
    )
    for note in found["notes"]:
        context.say(f"Note: {note}")


def _few(items: list[str]) -> str:
    shown = ", ".join(items[:_MOST_SHOWN]) or "nothing"
    return f"{shown} and {len(items) - _MOST_SHOWN} more" if len(items) > _MOST_SHOWN else shown


LEARN = Command(
    "learn",
    "Record what an instance uses, and write a profile that permits no more",
    learn,
    Argument("INSTANCE", "A container; it is started, or restarted", optional=True, complete="instances"),
    Option("--image", "In place of an instance: a container of this image, deleted afterwards", value="IMAGE"),
    Option("--command", "With --image: the program in place of that of the image", value="COMMAND"),
    Option("--into", "The profile to write (default: print its keys); other keys of it stay", value="PROFILE"),
    Option(
        "--while", "Record until this command of a shell on this machine has ended, not until Ctrl-C", value="COMMAND"
    ),
    FORMAT,
    Option("--no-restart", "Record from now on: what it does at its start is not learned"),
    details="The exit status is that of the command of --while, which finds the name in ISOLA_INSTANCE. With --image "
    "and without --while the recording ends with the program.",
    examples=(
        ("isola profile learn web1 --into web-least", "until Ctrl-C"),
        ("isola profile learn web1 --into web-least --while ./test.sh", "while a test runs"),
        ("isola profile learn --image my/job --into job-least", "one run of a program"),
    ),
)
REFUSALS = Command(
    "refusals",
    "List system calls and ports that instances were refused",
    refusals,
    Argument("INSTANCE", "One of them", optional=True, complete="instances"),
    FORMAT,
    examples=(("isola profile refusals", "of all instances"), ("isola profile refusals web1", "of one")),
)
