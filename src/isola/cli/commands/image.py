"""``isola image``."""

from __future__ import annotations

import sys

from isola.cli.arguments import UsageError
from isola.cli.commands.lifecycle import each
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.login import credentials
from isola.cli.output import ALL_PROJECTS, DOCUMENT_FORMAT, FORMAT, Column, document, show, time_of
from isola.model.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.cli.output import Item

_IMAGE = Argument("IMAGE", "Alias or fingerprint; the beginning of one is enough", complete="images")
_IMAGES = Argument("IMAGE", "One or several, by alias or fingerprint", many=True, complete="images")


def _aliases(item: Item) -> str:
    return "\n".join(str(alias.get("name")) for alias in item.get("aliases") or ())


def _type(item: Item) -> str:
    """``container``, ``vm`` or what else is started behind one wall alone."""
    kind = str(item.get("type") or "container")
    if (item.get("properties") or {}).get("isola.type") == "unikernel":
        return "unikernel"
    return "vm" if kind == "virtual-machine" else kind


_COLUMNS = (
    Column("ALIAS", _aliases),
    Column("FINGERPRINT", lambda item: str(item.get("fingerprint"))[:12]),
    Column("DESCRIPTION", lambda item: (item.get("properties") or {}).get("description", "")),
    Column("TYPE", _type),
    Column("ARCHITECTURE", "architecture"),
    Column("SIZE", lambda item: format_size(item.get("size") or 0)),
    Column("CREATED", lambda item: time_of(item.get("uploaded_at") or item.get("created_at"), 16)),
)
_MACHINES = ("q35", "pc", "microvm")
"""As ``model.kernel``, which would take time to import."""
_ALIAS_COLUMNS = (
    Column("ALIAS", "name"),
    Column("FINGERPRINT", lambda item: str(item.get("target"))[:12]),
    Column("DESCRIPTION", "description"),
)


def list_images(context: Context) -> None:
    """Print the images."""
    found = context.client.images.all()
    part = context.args.text("FILTER")
    found = [image for image in found if part in str(image)] if part else found
    if not found and not part and not context.args.given("format"):
        context.say("There are no images yet; build one with: isola image build debian/12")
        return
    show(context, sorted(found, key=_aliases), _COLUMNS)


def list_available(context: Context) -> None:
    """Print the images that the sources can build."""
    offers = (context.client.server.info().get("environment") or {}).get("image_offers")
    rows = (
        [{"name": name, "description": text} for name, text in sorted(offers.items())]
        if isinstance(offers, dict)
        else []
    )
    show(context, rows, (Column("NAME", "name"), Column("DESCRIPTION", "description")))


def info(context: Context) -> None:
    """Print the details of an image."""
    document(context, context.client.images.get(context.args.text("IMAGE")), context.args.text("format") or "yaml")


def build(context: Context) -> None:
    """Build an image by an image source."""
    name = context.args.text("NAME")
    options = context.args.pairs("option")
    operation = context.client.images.build(name, options=options, alias=context.args.text("alias"))
    context.follow(operation, f"Building {name}")
    context.say(f"Image {context.args.text('alias') or name} is ready")


def pull(context: Context) -> None:
    """Pull an image of a registry."""
    name = context.args.text("NAME")
    operation = context.client.images.pull(
        name,
        credentials=credentials(context, name),
        platform=context.args.text("platform"),
        aliases=context.args.many("alias"),
    )
    context.follow(operation, f"Pulling {name}")
    context.say(f"{operation.metadata.get('reference') or name} is pulled: {operation.metadata.get('digest') or ''}")


def push(context: Context) -> None:
    """Push an image to a registry."""
    image = context.args.text("IMAGE")
    name = context.args.text("NAME") or image
    operation = context.client.images.push(image, name, credentials=credentials(context, name))
    context.follow(operation, f"Pushing {name}")
    context.say(f"{operation.metadata.get('reference') or name} is pushed: {operation.metadata.get('digest') or ''}")


def tag(context: Context) -> None:
    """Give an image another name, which may have belonged to another one."""
    from isola.model.image_reference import names_registry, parse

    images = context.client.images
    name = context.args.text("NAME")
    if names_registry(name):
        name = parse(name).tagged().full
    images.point_alias(name, str(images.get(context.args.text("IMAGE"))["fingerprint"]))


def import_(context: Context) -> None:
    """Import an image from one file or two."""
    files = context.args.many("FILE")
    if len(files) > 2:
        raise UsageError("At most two files", hint="one unified tarball, or metadata and root file system")
    properties = context.args.pairs("property") | _kernel(context)
    operation = context.client.images.upload(files, properties=properties)
    context.follow(operation, f"Importing {files[-1]}")
    fingerprint = str(operation.metadata.get("fingerprint") or "")
    for alias in context.args.many("alias"):
        context.client.images.add_alias(alias, fingerprint)
    images = operation.metadata.get("images")
    for image in images if isinstance(images, list) else [{"fingerprint": fingerprint}]:
        names = ", ".join(image.get("names") or ())
        context.say(f"Imported {image['fingerprint'][:12]}{f' as {names}' if names else ''}")


def _kernel(context: Context) -> dict[str, str]:
    """Properties of a unikernel."""
    args = context.args
    about = {f"isola.{name}": args.text(name) for name in ("machine", "platform") if args.text(name)}
    if arguments := args.many("argument"):
        import shlex

        about["isola.command"] = shlex.join(arguments)
    if args.text("type") != "unikernel":
        if about:
            raise UsageError("--argument, --machine and --platform are for --type unikernel")
        return {"isola.type": args.text("type")} if args.text("type") else {}
    return about | {"isola.type": "unikernel"}


def export(context: Context) -> None:
    """Write an image to one file, or to two if it is split."""
    from isola.cli.transfer import save_image

    reference = context.args.text("IMAGE")
    if context.args.text("TARGET") == "-" and sys.stdout.isatty():
        raise UsageError(
            "An image cannot be written to a terminal", hint="redirect standard output to a file or a command"
        )
    for path in save_image(context.client, reference, context.args.text("TARGET"), oci=context.args.flag("oci")):
        context.say(f"Written to {path}")


def delete(context: Context) -> int:
    """Delete images."""
    return each(context, context.args.many("IMAGE"), context.client.images.delete, "Deleting", "is deleted")


def list_aliases(context: Context) -> None:
    """Print the aliases."""
    show(context, sorted(context.client.images.aliases(), key=lambda alias: alias.get("name", "")), _ALIAS_COLUMNS)


def add_alias(context: Context) -> None:
    """Add an alias of an image."""
    images = context.client.images
    fingerprint = images.get(context.args.text("IMAGE"))["fingerprint"]
    images.add_alias(context.args.text("ALIAS"), fingerprint, context.args.text("description"))


def remove_alias(context: Context) -> None:
    """Delete an alias; the image stays."""
    context.client.images.delete_alias(context.args.text("ALIAS"))


def rename_alias(context: Context) -> None:
    context.client.images.rename_alias(context.args.text("ALIAS"), context.args.text("NEW"))


_ALIAS = Argument("ALIAS", "The alias", complete="images")

COMMANDS = (
    Group(
        "image",
        "Images from which instances are created",
        Command(
            "list",
            "List images",
            list_images,
            ALL_PROJECTS,
            Argument("FILTER", "Text that must occur", optional=True),
            FORMAT,
            aliases=("ls",),
            examples=(("isola image list", "all of them"),),
        ),
        Command(
            "info",
            "Show the details of an image",
            info,
            _IMAGE,
            DOCUMENT_FORMAT,
            aliases=("show",),
            examples=(("isola image info debian/12", "properties, size, origin"),),
        ),
        Command(
            "build",
            "Build an image from a distribution's own packages",
            build,
            Argument("NAME", "A name from 'isola image available', e.g. debian/12", complete="images"),
            Option("-o --option", "An option of the source", value="KEY=VALUE", repeat=True),
            Option("--alias", "Its alias (default: NAME)", value="ALIAS"),
            examples=(
                ("isola image build debian/12", "ready for isola launch"),
                ("isola image build debian/12 -o packages=openssh-server --alias debian-ssh", "with one more package"),
                ("isola image build busybox", "two megabytes, in a second, without network access"),
            ),
        ),
        Command(
            "pull",
            "Pull an image of a registry",
            pull,
            Argument("NAME", "REGISTRY/PATH:TAG, or REGISTRY/PATH@DIGEST", complete="images"),
            Option("--platform", "Platform of an image for several (default: this one)", value="PLATFORM"),
            Option("--alias", "An alias instead of its complete name", value="ALIAS", repeat=True),
            details="The credentials are those of 'docker login' and 'podman login', or of their helpers; the daemon\n"
            "does not keep them. Names without a registry need the server setting images.registry.default.",
            examples=(
                ("isola image pull docker.io/library/nginx:1.27", "from Docker Hub"),
                ("isola image pull registry.example:5000/team/app --platform linux/arm64", "of another platform"),
            ),
        ),
        Command(
            "push",
            "Push an image to a registry",
            push,
            _IMAGE,
            Argument("NAME", "Its name in the registry (default: the alias)", optional=True, complete="images"),
            details="The credentials are those of 'docker login' and 'podman login', or of their helpers.",
            examples=(
                ("isola image push registry.example/team/app:1", "under the alias itself"),
                ("isola image push debian/12 registry.example/team/debian:12", "a system image, too"),
            ),
        ),
        Command(
            "tag",
            "Give an image a name, also one of another image",
            tag,
            _IMAGE,
            Argument("NAME", "The name, as in registry.example/team/app:1", complete="images"),
            examples=(("isola image tag debian/12 registry.example/team/debian:12", "ready for isola image push"),),
        ),
        Command(
            "available",
            "List images that can be built",
            list_available,
            FORMAT,
            examples=(("isola image available", "names for isola launch and isola image build"),),
        ),
        Command(
            "import",
            "Import an image made for LXD, Incus or LXC, OCI images, a root file system, a disk, or a unikernel",
            import_,
            Argument(
                "FILE",
                "A unified tarball, metadata and root file system, an archive or a directory of OCI images, what docker"
                " save wrote, a root file system alone, or the disk of a virtual machine (qcow2, raw, vmdk)",
                many=True,
                complete="paths",
            ),
            Option("--alias", "An alias for it", value="ALIAS", repeat=True),
            Option("--property", "A property to add or replace", value="KEY=VALUE", repeat=True),
            Option("--type", "Its type, if its metadata does not say", value="TYPE", choices=("vm", "unikernel")),
            Option("--argument", "An argument of the unikernel", value="TEXT", repeat=True),
            Option("--machine", "Machine of the unikernel (default: q35)", value="NAME", choices=_MACHINES),
            Option("--platform", "For which toolchain the unikernel was made, for display", value="NAME"),
            examples=(
                ("isola image import alpine.tar.xz --alias alpine", "one file"),
                ("isola image import disk.qcow2 --alias appliance --property os=Appliance", "a virtual machine's disk"),
                ("isola image import app.tar", "what docker save, podman save or skopeo wrote, with the names in it"),
                ("isola image import incus.tar.xz rootfs.squashfs --alias alpine", "two files"),
                (
                    "isola image import root.tar --alias mine --property os=Mine --property architecture=amd64",
                    "what docker export or mmdebstrap wrote",
                ),
                (
                    "isola image import app.elf --type unikernel --argument netdev.ip={address} --alias app",
                    "a kernel, which gets its address as an argument; a second file is its initial file system",
                ),
            ),
        ),
        Command(
            "export",
            "Write an image to one file (unified), or to two (split: metadata and root)",
            export,
            _IMAGE,
            Argument(
                "TARGET",
                "A directory, or a prefix for the file names; - is standard output, for one file",
                optional=True,
                complete="paths",
            ),
            Option("--oci", "Write an archive of OCI's layout, which docker, podman and skopeo can read"),
            examples=(
                ("isola image export app app.tar --oci", "for docker load, podman load and skopeo"),
                ("isola image export debian/12 debian12", "debian12.meta-....tar.gz and debian12.....tar.zst"),
                ("isola image export alpine .", "the file or files it was imported from"),
            ),
        ),
        Command(
            "delete",
            "Delete images; instances keep the files that they need",
            delete,
            _IMAGES,
            aliases=("rm",),
            examples=(("isola image delete debian/12", "with its aliases"),),
        ),
        Command("aliases", "List aliases", list_aliases, FORMAT, examples=(("isola image aliases", "all aliases"),)),
        Command(
            "alias",
            "Add an alias of an image",
            add_alias,
            _IMAGE,
            Argument("ALIAS", "The new alias"),
            Option("--description", "A description", value="TEXT"),
            examples=(("isola image alias debian/12 stable", "stable is another name of debian/12"),),
        ),
        Command(
            "unalias", "Delete an alias; the image stays", remove_alias, _ALIAS,
            examples=(("isola image unalias stable", "the image stays"),),
        ),
        Command(
            "rename-alias", "Rename an alias", rename_alias, _ALIAS, Argument("NEW", "The new name"),
            examples=(("isola image rename-alias stable bookworm", "stable is bookworm from now on"),),
        ),
    ),
)  # fmt: skip
