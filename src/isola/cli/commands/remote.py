"""``isola remote``."""

from __future__ import annotations

import sys

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Group, Option
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
    """Add a remote daemon, and add this client's certificate there."""
    from isola.client.certificates import read_token
    from isola.client.remotes import address

    name, text = context.args.text("REMOTE"), context.args.text("TOKEN|URL").strip()
    remotes = _remotes()
    remotes.require_new(name)
    identity = remotes.ensure_identity()
    content = read_token(text)
    if content is not None:
        url, project = _by_token(name, text, content, identity)
        fingerprint = content["fingerprint"]
    else:
        url = address(text)
        fingerprint, project = _by_url(context, name, url, identity)
    remotes.add(name, url, fingerprint, project)
    context.say(f"Remote {name} is {url}" + (f", project {project}" if project else ""))


def _by_token(name: str, token: str, content: Mapping[str, Any], identity: tuple[str, str]) -> tuple[str, str]:
    """The first address of the token at which the server can be reached, and the project to use."""
    from isola.client.failures import Unreachable
    from isola.client.remotes import address
    from isola.errors import IsolaError

    failed: list[str] = []
    for place in content["addresses"]:
        url = address(str(place))
        try:
            return url, _trust(name, url, content["fingerprint"], identity, token)
        except Unreachable as error:
            failed.append(f"{url}: {error.evidence}")
    raise IsolaError(
        "The server cannot be reached at any of the token's addresses",
        evidence="\n".join(failed[:20]) or "the token has no addresses",
        remedy="check core.https_address of that daemon, and the network",
    )


def _by_url(context: Context, name: str, url: str, identity: tuple[str, str]) -> tuple[str, str]:
    """The server's fingerprint, confirmed by the user, and the project to use."""
    from isola.client.remotes import split
    from isola.client.tls import server_certificate

    fingerprint = server_certificate(*split(url))
    if not context.args.flag("accept-certificate"):
        _confirm(fingerprint)
    return fingerprint, _trust(name, url, fingerprint, identity, context.args.text("token"))


def _confirm(fingerprint: str) -> None:
    sys.stderr.write(f"Fingerprint of the server's certificate: {fingerprint}\nIs this correct? (yes/no)  ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes", fingerprint):
        raise UsageError("The remote is not added", hint="--accept-certificate skips this question")


def _trust(name: str, url: str, fingerprint: str, identity: tuple[str, str], token: str) -> str:
    """Add this client's certificate on the server; returns the project to use, empty for ``default``.

    Raises Unreachable, Forbidden.
    """
    from isola.client import Client
    from isola.client.remotes import Remote
    from isola.errors import Forbidden

    with Client(remote=Remote(name, url, fingerprint, identity)) as client:
        if client.server.info().get("auth") != "trusted":
            if not token:
                raise Forbidden(
                    f"The server at {url} does not trust this client",
                    remedy="create a token there (isola config trust add NAME) and use it instead of the address",
                )
            client.certificates.add_own(token)
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
    """Choose the default remote."""
    name = context.args.text("REMOTE")
    _remotes().switch(name)
    context.say(f"{name} is now the default remote")


def get_default(context: Context) -> None:
    """Print the default remote."""
    context.write(_remotes().default)


def rename(context: Context) -> None:
    _remotes().rename(context.args.text("REMOTE"), context.args.text("NEW"))


def remove(context: Context) -> None:
    """Remove the entries of remotes; the servers are not contacted."""
    remotes = _remotes()
    for name in context.args.many("REMOTE"):
        remotes.remove(name)
        context.say(f"Remote {name} is removed; the server trusts this client until 'isola config trust remove' there")


def set_url(context: Context) -> None:
    """Change the address of a remote; its certificate stays the same."""
    from isola.client.remotes import address

    _remotes().change(context.args.text("REMOTE"), url=address(context.args.text("URL")))


def set_project(context: Context) -> None:
    """Choose the default project on a remote."""
    _remotes().change(context.args.text("REMOTE"), project=context.args.text("PROJECT"))


COMMANDS = (
    Group(
        "remote",
        "Daemons on other machines; NAME:INSTANCE is an instance there",
        Command(
            "add",
            "Add a remote by a token of its server, or by its address",
            add,
            Argument("REMOTE", "Its local name"),
            Argument(
                "TOKEN|URL", "The token that 'isola config trust add' printed there, or an address (192.0.2.1:8443)"
            ),
            Option("--token", "A token to use with an address", value="TOKEN"),
            Option("--accept-certificate", "Accept the server's certificate without asking"),
            details="The first remote creates a key for this user, in ~/.config/isola. A token contains the server's\n"
            "addresses and its certificate's fingerprint, so no other machine can impersonate it.",
            examples=(
                ("isola remote add office eyJjbGllbnR...", "by a token"),
                ("isola remote add office 192.0.2.1:8443", "by its address, if it trusts this user already"),
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
            "Choose the default remote",
            switch,
            _REMOTE,
            examples=(
                ("isola remote switch office", "isola list then shows its instances"),
                ("isola remote switch local", "this machine's daemon"),
            ),
        ),
        Command(
            "get-default",
            "Print the default remote",
            get_default,
            examples=(("isola remote get-default", "its name"),),
        ),
        Command(
            "rename",
            "Rename a remote",
            rename,
            _REMOTE,
            Argument("NEW", "The new name"),
            aliases=("mv",),
            examples=(("isola remote rename office work", "office becomes work"),),
        ),
        Command(
            "set-url",
            "Change the address of a remote",
            set_url,
            _REMOTE,
            Argument("URL", "The new address"),
            examples=(("isola remote set-url office 192.0.2.9", "the server has moved"),),
        ),
        Command(
            "set-project",
            "Choose the default project on a remote",
            set_project,
            _REMOTE,
            Argument("PROJECT", "The new project"),
            examples=(("isola remote set-project office blue", "for a client restricted to that project"),),
        ),
        Command(
            "remove",
            "Remove remotes",
            remove,
            Argument(_REMOTE.name, "One or several", many=True, complete="remotes"),
            aliases=("rm",),
            examples=(("isola remote remove office", "its server is not affected"),),
        ),
    ),
)
