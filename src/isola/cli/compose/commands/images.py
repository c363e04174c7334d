"""Verbs of ``isola compose`` about images: built, fetched, pushed, listed."""

from __future__ import annotations

from isola.cli.arguments import pairs
from isola.cli.compose.commands.chosen import SERVICES, instances_of
from isola.cli.grammar import Command, Option
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context


def build(context: Context) -> None:
    """Build the images of services."""
    from isola.cli.compose.builds import build as build_one
    from isola.cli.compose.files import application
    from isola.compose.application import order
    from isola.environment import variable

    found, args = application(context, context.args.many("SERVICE")), context.args
    named = order(found, args.many("SERVICE")) if args.flag("with-dependencies") else args.many("SERVICE")
    for name in named or order(found):
        if name in found.services and "build" in found.services[name]:
            given = {text: variable(text) or "" for text in args.many("build-arg") if "=" not in text}
            given |= pairs([text for text in args.many("build-arg") if "=" in text], "--build-arg")
            build_one(context, found, name, pull=args.flag("pull"), fresh=args.flag("no-cache"), arguments=given)
    if args.flag("push"):
        push(context)


def pull(context: Context) -> None:
    """Fetch the images of services."""
    from isola.cli.compose.files import application
    from isola.cli.compose.images import fetch, known
    from isola.compose.application import order
    from isola.errors import IsolaError

    args = context.args
    found = application(context, args.many("SERVICE"))
    needed = order(found, args.many("SERVICE"))
    for name in needed if args.flag("include-deps") else args.many("SERVICE") or found.services:
        image = found.services[name].get("image")
        if not image or "build" in found.services[name]:
            continue
        if args.text("policy") == "missing" and known(context, image):
            continue
        try:
            context.say(f"{name}: {image} is {fetch(context, image)[:12]}")
        except IsolaError as error:
            if not args.flag("ignore-pull-failures"):
                raise
            context.say(f"Warning: {error}")


def images(context: Context) -> None:
    """Print the images that instances were made from."""
    from isola.cli.compose.builds import image_name
    from isola.cli.compose.files import application
    from isola.compose.instances import SERVICE

    found = application(context)
    rows = [
        {
            "instance": one["name"],
            "image": image_name(found, service) if (service := one["config"][SERVICE]) in found.services else "",
            "fingerprint": one["config"].get("volatile.base_image", "")[:12],
        }
        for one in instances_of(context, context.args.many("SERVICE"))
    ]
    show(
        context, rows, [Column("INSTANCE", "instance"), Column("IMAGE", "image"), Column("FINGERPRINT", "fingerprint")]
    )


def push(context: Context) -> None:
    """Push the images of services that have a build."""
    from isola.cli.compose.builds import image_name
    from isola.cli.compose.files import application
    from isola.cli.compose.images import known
    from isola.cli.login import credentials
    from isola.errors import NotFound
    from isola.model.image_reference import parse

    found = application(context, context.args.many("SERVICE"))
    for service in context.args.many("SERVICE") or found.services:
        if "build" not in found.services[service]:
            continue
        name = parse(image_name(found, service)).tagged().full
        if not (fingerprint := known(context, name)):
            raise NotFound(f"The image {name} of service {service} is missing", remedy="isola compose build makes it")
        operation = context.client.images.push(fingerprint, name, credentials=credentials(context, name))
        context.follow(operation, f"Pushing {name}")
        context.say(f"{name} is pushed")


IMAGES = (
    Command(
        "build",
        "Build the images of services",
        build,
        SERVICES,
        Option("--pull", "Fetch newer base images"),
        Option("--no-cache", "Do not use cached results"),
        Option(
            "--build-arg",
            "A build argument; NAME alone takes the environment variable",
            value="NAME=VALUE",
            repeat=True,
        ),
        Option("--with-dependencies", "Also for services that the named ones depend on"),
        Option("--push", "Also push them"),
        examples=(("isola compose build", "all that have a build"),),
    ),
    Command(
        "pull",
        "Fetch the images of services",
        pull,
        SERVICES,
        Option("--include-deps", "Also for services that the named ones depend on"),
        Option("--ignore-pull-failures", "Continue if an image cannot be fetched"),
        Option("--policy", "missing: only images that do not exist here", value="WHEN", choices=("always", "missing")),
        examples=(("isola compose pull", "all"),),
    ),
    Command(
        "images",
        "List the images of instances",
        images,
        SERVICES,
        FORMAT,
        examples=(("isola compose images", "of all"),),
    ),
    Command(
        "push",
        "Push the images of services that have a build",
        push,
        SERVICES,
        examples=(("isola compose push", "under the names in the file"),),
    ),
)
