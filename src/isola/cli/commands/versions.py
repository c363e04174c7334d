"""``isola versions``, and versions named by their images."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command
from isola.cli.output import FORMAT, Column, show
from isola.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_HISTORY, _AT, _IMAGE = "volatile.deploy.history", "volatile.deploy.at", "volatile.base_image"


def versions(context: Context) -> None:
    """Print the version that serves and those before it."""
    rows = list_versions(context, context.args.text("NAME"))
    columns = (("VERSION", "version"), ("DEPLOYED", "deployed"), ("IMAGE", "image"), ("STATE", "state"))
    show(context, rows, [Column(title, key) for title, key in columns])


def list_versions(context: Context, name: str) -> list[dict[str, str]]:
    """Newest first: ``version`` (the name of its image, or its first digits), ``deployed``, ``image``, ``state``."""
    instance = context.client.instances.get(name)
    config = instance["config"]
    names = _names(context)
    before = [each.partition("=")[::2] for each in config.get(_HISTORY, "").split(",") if each]
    found = [(config.get(_AT, ""), config.get(_IMAGE, ""), "serves")]
    known = {each["fingerprint"] for each in context.client.images.all()}
    previous = _previous(context, name)
    for at, image in before:
        state = "kept" if image == previous else "image" if image in known else "removed"
        found.append((at, image, state))
    return [
        {"version": names.get(image, image[:12]), "deployed": at[:19], "image": image, "state": state}
        for at, image, state in found
    ]


def image_of(context: Context, name: str, version: str) -> tuple[str, bool]:
    """The image of a version that served, and whether that is still kept as an instance. Raises NotFound."""
    for each in list_versions(context, name)[1:]:
        if version == each["version"] or (len(version) > 3 and each["image"].startswith(version)):
            if each["state"] == "removed":
                raise NotFound(f"The image of version {version} of {name} is removed", remedy="build it again")
            return each["image"], each["state"] == "kept"
    raise NotFound(f"{name} has had no version {version!r}", remedy=f"isola versions {name} lists them")


def _previous(context: Context, name: str) -> str:
    """The image of the version that is kept as an instance."""
    for each in context.client.instances.all():
        config = each["config"]
        role = config.get("volatile.deploy.role")
        if config.get("volatile.deploy.name") == name and role in ("previous", "retiring"):
            return config.get(_IMAGE, "")
    return ""


def _names(context: Context) -> dict[str, str]:
    """Image -> its name, without the registry that short names mean."""
    return {
        alias["target"]: alias["name"].removeprefix("docker.io/library/") for alias in context.client.images.aliases()
    }


COMMANDS = (
    Command(
        "versions",
        "List the versions of an instance that were deployed",
        versions,
        Argument("NAME", "The instance", complete="instances"),
        FORMAT,
        details="isola rollback NAME returns to the version kept, with its files; --to makes others from their images.",
        examples=(("isola versions web", "which serves, which is kept, which images are left"),),
    ),
)
