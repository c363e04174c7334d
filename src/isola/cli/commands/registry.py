"""``isola registry``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.output import FORMAT, Column, show, time_of
from isola.model.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_REPOSITORY = Argument("REPOSITORY", "The repository, as in team/app", complete="repositories")
_REFERENCE = Argument(
    "REPOSITORY", "The repository, or REPOSITORY:TAG or REPOSITORY@DIGEST in it", complete="repositories"
)
_REPOSITORIES = (Column("REPOSITORY", "name"), Column("PROJECT", "project"), Column("TAGS", "tag_count"))
_MANIFESTS = (
    Column("TAG", lambda item: item.get("tag") or ""),
    Column("DIGEST", lambda item: str(item.get("digest") or "")[:19]),
    Column("TYPE", lambda item: _kind(str(item.get("artifact_type") or item.get("media_type") or ""))),
    Column("SIZE", lambda item: format_size(item.get("size") or 0)),
    Column("RUNS HERE", lambda item: "yes" if item.get("image") else "no"),
    Column("PUSHED", lambda item: time_of(item.get("pushed_at"))),
)
_TOKENS = (
    Column("NAME", "name"),
    Column("PROJECT", lambda item: item.get("project") or "all"),
    Column("ACCESS", lambda item: "read" if item.get("read_only") else "read and write"),
    Column("CREATED", lambda item: time_of(item.get("created_at"))),
    Column("EXPIRES", lambda item: time_of(item.get("expires_at")) or "never"),
)


def list_repositories(context: Context) -> None:
    """Print the repositories."""
    show(context, context.client.registry.repositories(), _REPOSITORIES)


def show_tags(context: Context) -> None:
    """Print the tags of a repository, and manifests without a tag."""
    found = context.client.registry.repository(context.args.text("REPOSITORY"))
    show(context, list(found["manifests"]), _MANIFESTS)


def delete(context: Context) -> None:
    """Delete a repository, a tag or a manifest."""
    typed = context.args.text("REPOSITORY")
    name, at, digest = typed.partition("@")
    head, colon, tag = name.rpartition(":")
    if not at and colon:
        context.client.registry.delete(head, tag=tag)
    else:
        context.client.registry.delete(name, digest=digest)
    context.say(f"{typed} is deleted")


def create_token(context: Context) -> None:
    """Create a login token, and print its secret."""
    args = context.args
    name = args.text("NAME")
    made = context.client.registry.create_token(
        name, project=args.text("project"), read_only=args.flag("read-only"), expires=args.text("expires")
    )
    context.say(f"Clients log in as {name!r} with this secret, which is not shown again:")
    context.write(str(made["secret"]))


def list_tokens(context: Context) -> None:
    """Print the login tokens."""
    show(context, context.client.registry.tokens(), _TOKENS)


def delete_token(context: Context) -> None:
    """Remove a login token."""
    name = context.args.text("NAME")
    context.client.registry.delete_token(name)
    context.say(f"Login token {name} is removed")


def _kind(media_type: str) -> str:
    return media_type.removeprefix("application/vnd.").removesuffix("+json")


_TOKEN = Argument("NAME", "The login token: what clients give as user name", complete="login-tokens")

COMMANDS = (
    Group(
        "registry",
        "The registry that the daemon serves: repositories, and logins of its clients",
        Command(
            "list",
            "List repositories",
            list_repositories,
            Option("--all-projects", "Those of all projects"),
            FORMAT,
            aliases=("ls",),
            examples=(("isola registry list", "what clients can pull"),),
        ),
        Command(
            "tags",
            "List the tags of a repository, and manifests without a tag",
            show_tags,
            _REPOSITORY,
            FORMAT,
            examples=(("isola registry tags team/app", "with digests and sizes"),),
        ),
        Command(
            "delete",
            "Delete a tag, a manifest or a whole repository; instances keep what they use",
            delete,
            _REFERENCE,
            aliases=("rm",),
            examples=(
                ("isola registry delete team/app:1", "this tag; the manifest stays under its digest"),
                ("isola registry delete team/app@sha256:4bcf...", "a manifest with all its tags"),
                ("isola registry delete team/app", "the repository with everything in it"),
            ),
        ),
        Group(
            "token",
            "Login tokens, with which docker login and other clients log in",
            Command(
                "create",
                "Create a login token and print its secret",
                create_token,
                Argument("NAME", "A name, which clients give as user name"),
                Option("--read-only", "Pull only"),
                Option("--expires", "Lifetime, as in 30d or 2H 30M (default: none)", value="TIME"),
                details="With --project it is for the repositories of this project alone.",
                examples=(
                    ("isola registry token create ci", "may push and pull everywhere"),
                    ("isola registry token create web --project blue --read-only --expires 30d", "one project, pull"),
                ),
            ),
            Command(
                "list",
                "List login tokens",
                list_tokens,
                FORMAT,
                aliases=("ls",),
                examples=(("isola registry token list", "without their secrets"),),
            ),
            Command(
                "delete",
                "Remove a login token",
                delete_token,
                _TOKEN,
                aliases=("rm",),
                examples=(("isola registry token delete ci", "its clients are refused at once"),),
            ),
        ),
    ),
)
