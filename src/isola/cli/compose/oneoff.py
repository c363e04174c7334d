"""``isola compose run``: one command in an instance of its own, made as the service says."""

from __future__ import annotations

import os
import posix
import secrets
from dataclasses import replace

from isola.cli.arguments import UsageError
from isola.cli.compose.conditions import await_condition
from isola.cli.compose.creation import create
from isola.cli.compose.images import image_of, mounted
from isola.cli.compose.resources import Resources
from isola.cli.compose.server import facts
from isola.cli.compose.up import How, Up
from isola.cli.guardian import Guardian
from isola.compose.application import order
from isola.compose.attributes import refuse, warnings
from isola.compose.changes import Recreation, instance_name
from isola.compose.env_files import parse_env
from isola.compose.oneoff import Wish, changed, one_off
from isola.environment import variable
from isola.errors import IsolaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.cli.context import Context
    from isola.compose.application import Application


_NOT_EXECUTED = (126, 127)
"""Exit status of a program that may not be executed, or that is not there."""


class OneOff:
    """One command of a service."""

    def __init__(self, context: Context, application: Application, service: str) -> None:
        self._context, self._client, self._args = context, context.client, context.args
        self._service = service
        order(application, [service])
        self._wish = _wish(context, application, service)
        self._whole = application
        self._application = changed(application, service, self._wish)

    def run(self) -> int:
        """Returns the exit status of its program; 0 for one that stays in the background."""
        part = self._application.part([self._service])
        refuse(part)
        for text in warnings(part):
            self._context.say(f"Warning: {text}")
        if not self._args.flag("no-deps"):
            self._start_needed()
        server = facts(self._client)
        resources = Resources(self._context, self._application, server.pool)
        pull, rebuild = self._args.text("pull"), self._args.flag("build")
        image = image_of(self._context, self._application, self._service, pull=pull, rebuild=rebuild)
        server = replace(server, images=mounted(self._context, self._application, [self._service]))
        resources.make([self._service])
        found = one_off(self._application, self._service, image, server, self._wish)
        removes, detached = self._args.flag("rm"), self._args.flag("detach")
        guardian = Guardian(self._client, found.name) if removes and not detached else None
        try:
            create(self._context, self._application, self._service, found, ephemeral=removes and detached)
            if detached:
                self._context.follow(self._client.instances.start(found.name), f"Starting {found.name}")
                self._context.write(found.name)
                return 0
            return self._attached(found.name)
        finally:
            if guardian is not None:
                self._remove(found.name)
                resources.remove_anonymous(self._service, found.name)
                guardian.relieve()

    def _start_needed(self) -> None:
        needed = [name for name in order(self._whole, [self._service]) if name != self._service]
        if needed:
            Up(self._context, self._whole).run(needed, How(Recreation.NEVER))
        for name, how in self._whole.needs(self._service).items():
            if name in self._whole.services:
                await_condition(self._context, self._whole.name, name, how)

    def _attached(self, name: str) -> int:
        """Its output and input are this command's, from the first byte on."""
        from isola.cli.attached import attach
        from isola.cli.terminal import size
        from isola.client.runs import wait

        session = self._client.instances.attach(name, ahead=True, stdin=self._wish.stdin)
        try:
            try:
                self._context.follow(self._client.instances.start(name), f"Starting {name}")
            except IsolaError as error:
                return self._not_executed(name, error)
            if session.interactive:
                session.resize(*size(1))
            attach(session, 0 if self._wish.stdin else None)
            return wait(self._client, name)
        finally:
            session.close()

    def _not_executed(self, name: str, error: IsolaError) -> int:
        """Show why; 126 or 127 for a program that cannot be executed, as in a shell. Raises other errors again."""
        from isola.cli.failures import report

        status = (self._client.instances.get(name).get("last_run") or {}).get("exit_status")
        if status not in _NOT_EXECUTED:
            raise error
        report(error)
        return status

    def _remove(self, name: str) -> None:
        from isola.errors import NotFound

        try:
            self._client.instances.delete(name, force=True).wait()
        except NotFound:
            return


def _wish(context: Context, application: Application, service: str) -> Wish:
    args = context.args
    detached = args.flag("detach")
    if args.flag("service-ports") and args.many("publish"):
        raise UsageError("--service-ports and --publish exclude each other")
    terminal = not args.flag("no-tty") and not detached and posix.isatty(0) and posix.isatty(1)
    return Wish(
        name=args.text("name") or instance_name(application.name, f"{service}-run", 0)[:-1] + secrets.token_hex(6),
        command=args.many("COMMAND"),
        entrypoint=args.text("entrypoint") if args.given("entrypoint") else None,
        environment=_environment(context),
        labels={key: value for key, _, value in (text.partition("=") for text in args.many("label"))},
        user=args.text("user"),
        cwd=args.text("workdir"),
        volumes=[_volume(text, os.getcwd()) for text in args.many("volume")],
        publish=args.many("publish"),
        cap_add=args.many("cap-add"),
        cap_drop=args.many("cap-drop"),
        service_ports=args.flag("service-ports"),
        aliases=args.flag("use-aliases"),
        terminal=terminal,
        stdin=not detached and not args.flag("no-stdin"),
    )


def _environment(context: Context) -> Mapping[str, str]:
    """``NAME`` alone takes the value of this command's own."""
    found: dict[str, str] = {}
    for file in context.args.many("env-from-file"):
        with open(file, encoding="utf-8") as stream:
            values = parse_env(stream.read(1 << 20), {**found, **os.environ}, file)
        found |= {name: value for name, value in values.items() if value is not None}
    for text in context.args.many("env"):
        name, equals, value = text.partition("=")
        if not equals:
            value = variable(name) or ""
        found[name] = value
    return found


def _volume(text: str, here: str) -> str:
    """With an absolute path where a relative one stands."""
    source, colon, rest = text.partition(":")
    if colon and (source.startswith((".", "~"))):
        source = os.path.normpath(os.path.join(here, os.path.expanduser(source)))
    return source + colon + rest
