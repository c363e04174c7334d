"""``isola config trust``: the client certificates that the daemon trusts."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.output import DOCUMENT_FORMAT, FORMAT, Column, document, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from isola.cli.context import Context

_FIELDS = ("name", "type", "restricted", "projects", "description", "certificate")
_FINGERPRINT = Argument(
    "FINGERPRINT", "The certificate, by its name or the beginning of its fingerprint", complete="certificates"
)
_COLUMNS = (
    Column("NAME", "name"),
    Column("TYPE", "type"),
    Column("PROJECTS", lambda item: ", ".join(item.get("projects") or ()) if item.get("restricted") else "all"),
    Column("DESCRIPTION", "description"),
    Column("FINGERPRINT", lambda item: item["fingerprint"][:12]),
)
_TOKENS = (
    Column("NAME", "name"),
    Column("PROJECTS", "projects"),
    Column("EXPIRES", "expires"),
    Column("TOKEN", "token"),
)


def add(context: Context) -> None:
    """Trust a certificate, or print a token with which a client adds its own."""
    projects = [each for each in context.args.text("projects").split(",") if each]
    about = {
        "name": context.args.text("CLIENT"),
        "type": context.args.text("type") or "client",
        "restricted": context.args.flag("restricted") or bool(projects),
        "projects": projects,
        "description": context.args.text("description"),
    }
    file = context.args.text("certificate")
    if file:
        context.client.certificates.add(_der(file), about)
        context.say(f"{about['name']} is trusted")
        return
    token = context.client.certificates.create_token(about)
    context.say(f"Token for {about['name']}, valid once:")
    context.write(token)


def _der(file: str) -> str:
    """The first certificate of a PEM file, as the API takes it."""
    with open(file, encoding="utf-8") as opened:
        _, begins, rest = opened.read().partition("-----BEGIN CERTIFICATE-----")
    body, ends, _ = rest.partition("-----END CERTIFICATE-----")
    if not begins or not ends:
        raise UsageError(
            f"{file} contains no certificate", hint="a PEM certificate begins with -----BEGIN CERTIFICATE-----"
        )
    return "".join(body.split())


def list_certificates(context: Context) -> None:
    """Print the trusted clients."""
    found = context.client.certificates.all()
    show(context, sorted(found, key=lambda item: str(item.get("name"))), _COLUMNS)


def show_certificate(context: Context) -> None:
    """Print one certificate."""
    found, _ = context.client.certificates.read(_fingerprint(context, context.args.text("FINGERPRINT")))
    document(context, found, context.args.text("format") or "yaml")


def edit(context: Context) -> None:
    """Edit a certificate's record as YAML."""
    from isola.cli.keys import changed_by_user

    fingerprint = _fingerprint(context, context.args.text("FINGERPRINT"))
    found, etag = context.client.certificates.read(fingerprint)
    changed = changed_by_user(context, found, _FIELDS, fingerprint)
    if changed is not None:
        context.client.certificates.update(fingerprint, changed, etag=etag)


def remove(context: Context) -> None:
    """Remove trusted certificates."""
    for text in context.args.many("FINGERPRINT"):
        context.client.certificates.remove(_fingerprint(context, text))
        context.say(f"{text} is no longer trusted")


def _fingerprint(context: Context, text: str) -> str:
    """The fingerprint of the certificate with this name; any other text is used as a fingerprint."""
    found = [each["fingerprint"] for each in context.client.certificates.all() if each.get("name") == text]
    if len(found) > 1:
        from isola.errors import InvalidInput

        raise InvalidInput(f"Several certificates are named {text!r}", remedy="use the beginning of a fingerprint")
    return str(found[0]) if found else text


def list_tokens(context: Context) -> None:
    """Print unused tokens."""
    show(context, [_token(about) for _, about in context.client.certificates.tokens()], _TOKENS)


def revoke_token(context: Context) -> None:
    waiting = context.client.certificates.tokens()
    for name in context.args.many("CLIENT"):
        found = [id for id, about in waiting if about["request"].get("name") == name]
        if not found:
            from isola.errors import NotFound

            raise NotFound(f"There is no unused token for {name!r}")
        for id in found:
            context.client.operations.get(id).cancel()
        context.say(f"The token for {name} is revoked")


def _token(about: dict[str, Any]) -> dict[str, Any]:
    from isola.client.certificates import token_text

    request = about["request"]
    return {
        "name": request.get("name"),
        "projects": ", ".join(request.get("projects") or ()) if request.get("restricted") else "all",
        "expires": about.get("expiresAt") or "",
        "token": token_text(about),
    }


TRUST = Group(
    "trust",
    "Clients that may use the API over the network",
    Command(
        "add",
        "Print a token with which a client adds itself, or trust a certificate",
        add,
        Argument("CLIENT", "A name for the client"),
        Option("--certificate", "A PEM file to trust at once, without a token", value="FILE", complete="paths"),
        Option("--restricted", "Restrict it to its projects"),
        Option("--projects", "Its projects, separated by commas; implies --restricted", value="NAMES"),
        Option("--type", "Kind of access", value="TYPE", choices=("client", "metrics"), default="client"),
        Option("--description", "A description", value="TEXT"),
        examples=(
            ("isola config trust add laptop", "then, there: isola remote add NAME TOKEN"),
            ("isola config trust add ci --projects tests", "for one project only"),
        ),
    ),
    Command(
        "list",
        "List trusted clients",
        list_certificates,
        FORMAT,
        aliases=("ls",),
        examples=(("isola config trust list", "all of them"),),
    ),
    Command(
        "show",
        "Show a client with its certificate",
        show_certificate,
        _FINGERPRINT,
        DOCUMENT_FORMAT,
        examples=(("isola config trust show 3f2a91c0", "one of them"),),
    ),
    Command(
        "edit",
        "Edit the permissions of a client, as YAML",
        edit,
        _FINGERPRINT,
        examples=(("isola config trust edit 3f2a91c0", "in your editor"),),
    ),
    Command(
        "remove",
        "Remove trusted clients and close their connections",
        remove,
        Argument(_FINGERPRINT.name, "One or several", many=True, complete="certificates"),
        aliases=("rm",),
        examples=(("isola config trust remove 3f2a91c0", "or by its name"),),
    ),
    Command(
        "list-tokens",
        "List unused tokens",
        list_tokens,
        FORMAT,
        examples=(("isola config trust list-tokens", "all of them"),),
    ),
    Command(
        "revoke-token",
        "Revoke tokens",
        revoke_token,
        Argument("CLIENT", "One or several, as named in 'trust add'", many=True),
        examples=(("isola config trust revoke-token laptop", "before it was used"),),
    ),
)
