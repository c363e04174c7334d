"""``isola remote``."""

from __future__ import annotations

import sys

from isola.cli.grammar import Argument, Command, Group, Option, UsageError
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.remotes import Remotes

_REMOTE = Argument("REMOTE", "The remote", complete="remotes")
_COLUMNS = (
    Column("NAME", lambda item: f"{item['name']} (default)" if item["default"] else item["name"]),
    Column("URL", "url"),
    Column("PROJECT", "project"),
    Column("FINGERPRINT", lambda item: item["fingerprint"][:12]),
)


def _remotes() -> Remotes:
    from isola.client.remotes import Remotes

    return Remotes()


def add(context: Context) -> None:
    """Name a remote daemon, and have it trust us."""
    from isola.client.certificates import read_token
    from isola.client.remotes import address

    name, text = context.args.text("REMOTE"), context.args.text("TOKEN|URL").strip()
    remotes = _remotes()
    remotes.require_new(name)
    identity = remotes.ensure_identity()
    said = read_token(text)
    if said is not None:
        url, project = _by_token(name, text, said, identity)
        fingerprint = said["fingerprint"]
    else:
        url = address(text)
        fingerprint, project = _by_url(context, name, url, identity)
    remotes.add(name, url, fingerprint, project)
    context.say(f"Remote {name} is {url}" + (f", project {project}" if project else ""))


def _by_token(name: str, token: str, said: Mapping[str, Any], identity: tuple[str, str]) -> tuple[str, str]:
    """The first of the token's addresses where its server answers, and the project to work in."""
    from isola.client.failures import Unreachable
    from isola.client.remotes import address
    from isola.errors import IsolaError

    failed: list[str] = []
    for place in said["addresses"]:
        url = address(str(place))
        try:
            return url, _introduce(name, url, said["fingerprint"], identity, token)
        except Unreachable as error:
            failed.append(f"{url}: {error.evidence}")
    raise IsolaError(
        "The server is reached at none of the token's addresses",
        evidence="\n".join(failed[:20]) or "it names none",
        remedy="core.https_address of its daemon says where it listens",
    )


def _by_url(context: Context, name: str, url: str, identity: tuple[str, str]) -> tuple[str, str]:
    """The fingerprint of the server there, which the user has looked at, and the project to work in."""
    from isola.client.remotes import split
    from isola.client.tls import server_certificate

    fingerprint = server_certificate(*split(url))
    if not context.args.flag("accept-certificate"):
        _have_confirmed(fingerprint)
    return fingerprint, _introduce(name, url, fingerprint, identity, context.args.text("token"))


def _have_confirmed(fingerprint: str) -> None:
    sys.stderr.write(f"Fingerprint of the server's certificate: {fingerprint}\nIs it this one? (yes/no) ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes", fingerprint):
        raise UsageError("The remote is not added", hint="--accept-certificate takes it unseen")


def _introduce(name: str, url: str, fingerprint: str, identity: tuple[str, str], token: str) -> str:
    """Have the server trust us, if it does not yet; the project to work in where that is not ``default``.

    Raises Unreachable, Forbidden.
    """
    from isola.client import Client
    from isola.client.remotes import Remote
    from isola.errors import Forbidden

    with Client(remote=Remote(name, url, fingerprint, identity)) as client:
        if client.server.info().get("auth") != "trusted":
            if not token:
                raise Forbidden(
                    f"The server at {url} does not trust us",
                    remedy="have a token made there (isola config trust add), and name it in place of the address",
                )
            client.certificates.come(token)
        names = client.server.project_names()
    return "" if "default" in names or not names else min(names)


def list_remotes(context: Context) -> None:
    """Print the remotes."""
    remotes = _remotes()
    items = []
    for name in remotes.names():
        found = remotes.find(name)
        about = {"url": "unix://", "project": "", "fingerprint": ""}
        if found is not None:
            about = {"url": found.url, "project": found.project, "fingerprint": found.fingerprint}
        items.append({"name": name, "default": name == remotes.default, **about})
    show(context, items, _COLUMNS)


def switch(context: Context) -> None:
    """Choose where commands go that name no remote."""
    name = context.args.text("REMOTE")
    _remotes().switch(name)
    context.say(f"Commands that name no remote go to {name} from now on")


def get_default(context: Context) -> None:
    """Print where commands go that name no remote."""
    context.write(_remotes().default)


def rename(context: Context) -> None:
    """Give a remote another name."""
    _remotes().rename(context.args.text("REMOTE"), context.args.text("NEW"))


def remove(context: Context) -> None:
    """Forget remotes."""
    remotes = _remotes()
    for name in context.args.many("REMOTE"):
        remotes.remove(name)
        context.say(f"Remote {name} is forgotten; the server still trusts this client until it is told otherwise")


def set_url(context: Context) -> None:
    """Say that a remote has another address; it stays known by its certificate."""
    from isola.client.remotes import address

    _remotes().change(context.args.text("REMOTE"), url=address(context.args.text("URL")))


def set_project(context: Context) -> None:
    """Choose the project for commands on the remote that name none."""
    _remotes().change(context.args.text("REMOTE"), project=context.args.text("PROJECT"))


COMMANDS = (
    Group(
        "remote",
        "Daemons of other machines; NAME: before the name of an instance says that it is there",
        Command(
            "add",
            "Add a remote by a token that was made there, or by its address",
            add,
            Argument("REMOTE", "What it is called here"),
            Argument("TOKEN|URL", "What 'isola config trust add' has printed there; or an address (192.0.2.1:8443)"),
            Option("--token", "A token, where an address is named", value="TOKEN"),
            Option("--accept-certificate", "Believe that the server at the address is the right one, unseen"),
            details="The first remote makes a key for this user, in ~/.config/isola. A token names the server's\n"
            "addresses and its certificate, so a machine in between cannot impersonate it.",
            examples=(
                ("isola remote add office eyJjbGllbnR...", "by a token"),
                ("isola remote add office 192.0.2.1:8443", "by its address, where it trusts this user already"),
            ),
        ),
        Command(
            "list",
            "List remotes",
            list_remotes,
            FORMAT,
            aliases=("ls",),
            examples=(("isola remote list", "all remotes, and the default"),),
        ),
        Command(
            "switch",
            "Send commands that name no remote to this one",
            switch,
            _REMOTE,
            examples=(
                ("isola remote switch office", "isola list shows what is there"),
                ("isola remote switch local", "back to this machine"),
            ),
        ),
        Command(
            "get-default",
            "Print the remote for commands that name none",
            get_default,
            examples=(("isola remote get-default", "its name"),),
        ),
        Command(
            "rename",
            "Rename a remote",
            rename,
            _REMOTE,
            Argument("NEW", "Its name from now on"),
            aliases=("mv",),
            examples=(("isola remote rename office work", "office is work from now on"),),
        ),
        Command(
            "set-url",
            "Say that a remote has another address",
            set_url,
            _REMOTE,
            Argument("URL", "Its address from now on"),
            examples=(("isola remote set-url office 192.0.2.9", "the server has moved"),),
        ),
        Command(
            "set-project",
            "Choose the project for commands on a remote that name none",
            set_project,
            _REMOTE,
            Argument("PROJECT", "Its project from now on"),
            examples=(("isola remote set-project office blue", "for those restricted to a project"),),
        ),
        Command(
            "remove",
            "Forget remotes",
            remove,
            Argument(_REMOTE.name, "One or several", many=True, complete="remotes"),
            aliases=("rm",),
            examples=(("isola remote remove office", "its server goes on without us"),),
        ),
    ),
)
