"""``isola project``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.noun import Noun
from isola.cli.output import FORMAT, Column, show
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from isola.cli.context import Context
    from isola.cli.output import Item
    from isola.client.operations import Operation

_NOUN = Noun(
    "project", "project", lambda context: context.client.projects, sample="blue", key=("limits.instances", "10")
)


def _own(feature: str) -> Callable[[Item], str]:
    return lambda item: "own" if (item.get("config") or {}).get(f"features.{feature}") == "true" else "shared"


_COLUMNS = (
    Column("NAME", lambda item: f"{item['name']} (current)" if item.get("current") else item["name"]),
    Column("IMAGES", _own("images")),
    Column("PROFILES", _own("profiles")),
    Column("VOLUMES", _own("storage.volumes")),
    Column("NETWORKS", _own("networks")),
    Column("DESCRIPTION", "description"),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
)
_USAGE = (Column("WHAT", "what"), Column("LIMIT", "limit"), Column("USAGE", "usage"))


def list_projects(context: Context) -> None:
    """Print the projects."""
    current = context.client.project or "default"
    found = [{**project, "current": project["name"] == current} for project in _NOUN.all(context)]
    show(context, found, _COLUMNS)


def create(context: Context, name: str, config: dict[str, str], description: str) -> Operation:
    """Create a project, after checking that its pool and network exist."""
    if pool := context.args.text("storage"):
        context.client.storage.get(pool)
    if (network := context.args.text("network")) and config.get("features.networks") != "true":
        context.client.networks.get(network)
    return context.client.projects.create(name, config, description)


def _add_devices(context: Context, name: str) -> str:
    """Add a root disk and NICs to its default profile, so that it is usable; returns the notice to print."""
    from isola.errors import IsolaError

    notice = f"is created; make it the current one with: isola project switch {name}"
    features = context.client.projects.get(name).get("config") or {}
    named = context.args.text("storage") or context.args.text("network")
    if context.args.flag("empty-profile") or (features.get("features.profiles") != "true" and not named):
        return notice
    before = context.client.project
    try:
        context.client.project = "default"
        usual = context.client.profiles.get("default").get("devices") or {}
        devices = _devices(context, usual, own_networks=features.get("features.networks") == "true")
        context.client.project = name
        profile, etag = context.client.profiles.read("default")
        whole = {key: profile.get(key) for key in ("config", "description")} | {"devices": devices}
        context.follow(context.client.profiles.update("default", whole, etag=etag))
    except IsolaError as error:
        if named:
            raise
        return f"{notice}\nIts default profile has no devices: {error}"
    finally:
        context.client.project = before
    return f"{notice}\nIts default profile has {', '.join(map(_shown, devices.items())) or 'no devices'}"


def _devices(context: Context, usual: dict[str, Any], *, own_networks: bool) -> dict[str, Any]:
    """The root disk and NICs of the default project's profile, or those given on the command line."""
    pool, network = context.args.text("storage"), context.args.text("network")
    roots = {key: each for key, each in usual.items() if each.get("type") == "disk" and each.get("path") == "/"}
    nics = {key: each for key, each in usual.items() if each.get("type") == "nic" and not own_networks}
    if pool:
        roots = {"root": {"type": "disk", "path": "/", "pool": pool}}
    if network:
        nics = {"eth0": {"type": "nic", "name": "eth0", "network": network}}
    return {**nics, **roots}


def _shown(device: tuple[str, dict[str, str]]) -> str:
    name, keys = device
    where = next((f"{kind} {keys[kind]}" for kind in ("pool", "network", "parent") if keys.get(kind)), keys["type"])
    return f"{name} ({where})"


def info(context: Context) -> None:
    """Print a project's usage and limits."""
    from isola.model.units import format_size

    name = context.args.text("NAME") or context.client.project or "default"

    def shown(what: str, amount: int) -> str:
        return "" if amount < 0 else format_size(amount) if what.startswith(("memory", "disk")) else str(amount)

    usage = context.client.projects.usage(name)
    rows = [
        {"what": what, "limit": shown(what, found["Limit"]), "usage": shown(what, found["Usage"])}
        for what, found in sorted(usage.items())
    ]
    show(context, rows, _USAGE)


def switch(context: Context) -> None:
    """Choose the default project of commands."""
    name = context.args.text("NAME")
    context.client.projects.read(name)
    context.remember_project(name)
    context.say(f"{name} is now the project of commands without --project")


def get_current(context: Context) -> None:
    """Print the default project of commands."""
    context.write(context.client.project or "default")


def _empty(context: Context, name: str) -> None:
    """With ``--force`` delete the project's contents: instances first, because they use the rest."""
    if not context.args.flag("force") or name == "default":
        return
    used_by = context.client.projects.get(name).get("used_by") or ()
    for kind in ("instances", "storage-pools", "images", "profiles", "networks"):
        for address in sorted(each for each in used_by if each.startswith(f"{ROOT}/{kind}/")):
            path = address.partition("?")[0]
            if path != f"{ROOT}/profiles/default":
                query = {"project": name} | ({"force": 1} if kind == "instances" else {})
                context.follow(context.client.begin("DELETE", path, query=query), f"Deleting {path}")


COMMANDS = (
    Group(
        "project",
        "Groups of instances with their own images, profiles and volumes",
        Command(
            "list",
            "List projects",
            list_projects,
            FORMAT,
            aliases=("ls",),
            examples=(("isola project list", "all projects, and the current one"),),
        ),
        _NOUN.creation(
            create,
            Option("-c --config", "Configuration", value="KEY=VALUE", repeat=True, complete="project-keys"),
            Option("-s --storage", "Storage pool of the root disk", value="NAME", complete="pools"),
            Option("-n --network", "Network of eth0", value="NAME", complete="networks"),
            Option("--empty-profile", "Leave its default profile without devices"),
            keys=Argument("KEY=VALUE", "Configuration", many=True, optional=True, complete="project-keys"),
            after=_add_devices,
            details="It has its own images, profiles and volumes unless a feature is set to false. Its own default\n"
            "profile gets the root disk and the NICs of the default project's profile.",
            examples=(
                ("isola project create blue", "its own images and profiles"),
                (
                    "isola project create blue --storage fast --network lab",
                    "with another pool and network",
                ),
                (
                    "isola project create blue features.images=false features.profiles=false",
                    "with the images and profiles of default",
                ),
            ),
        ),
        *_NOUN.keys(),
        Command(
            "info",
            "Show a project's usage and limits",
            info,
            Argument("NAME", "The project (default: the current one)", optional=True, complete="projects"),
            FORMAT,
            examples=(("isola project info blue", "limits and usage"),),
        ),
        Command(
            "switch",
            "Choose the project of commands without --project",
            switch,
            _NOUN.argument,
            examples=(
                ("isola project switch blue", "isola list then shows its instances"),
                ("isola project switch default", "the default project"),
            ),
        ),
        Command(
            "get-current",
            "Print the project of commands without --project",
            get_current,
            examples=(("isola project get-current", "its name"),),
        ),
        _NOUN.renaming("Rename an empty project", "green"),
        _NOUN.deletion(
            "Delete projects that are empty, or with their contents",
            "an empty one",
            Option("-f --force", "With its instances, images, profiles and volumes"),
            before=_empty,
        ),
    ),
)
