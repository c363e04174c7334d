"""``isola project``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Group, Option, pairs
from isola.cli.keys import key_commands
from isola.cli.output import FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.cli.output import Item
    from isola.client.operations import Operation

_NAME = Argument("NAME", "The project", complete="projects")


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
    found = sorted(context.client.projects.all(), key=lambda project: str(project["name"]))
    show(context, [{**project, "current": project["name"] == current} for project in found], _COLUMNS)


def create(context: Context) -> None:
    """Create a project."""
    name = context.args.text("NAME")
    config = pairs([*context.args.many("KEY=VALUE"), *context.args.many("config")], "create")
    context.client.projects.create(name, config, context.args.text("description"))
    context.say(f"Project {name} is created; make it the current one with: isola project switch {name}")


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


def rename(context: Context) -> None:
    """Give an empty project another name."""
    old, new = context.args.text("NAME"), context.args.text("NEW")
    context.follow(context.client.projects.rename(old, new), f"Renaming {old}")


def delete(context: Context) -> None:
    """Delete empty projects."""
    for name in context.args.many("NAME"):
        context.client.projects.delete(name)
        context.say(f"Project {name} is deleted")


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    return context.client.projects.read(name)


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    return context.client.projects.update(name, whole, etag=etag)


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
        Command(
            "create",
            "Create a project",
            create,
            Argument("NAME", "Its name"),
            Argument("KEY=VALUE", "Configuration", many=True, optional=True, complete="project-keys"),
            Option("-c --config", "Configuration", value="KEY=VALUE", repeat=True, complete="project-keys"),
            Option("--description", "A description", value="TEXT"),
            details="It has its own images, profiles and volumes unless a feature is set to false.",
            examples=(
                ("isola project create blue", "its own images and profiles"),
                (
                    "isola project create blue features.images=false features.profiles=false",
                    "with the images and profiles of default",
                ),
            ),
        ),
        *key_commands(
            "project",
            _NAME,
            read=_read,
            write=_write,
            fields=("config", "description"),
            example=("limits.instances", "10"),
        ),
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
            _NAME,
            examples=(
                ("isola project switch blue", "isola list then shows its instances"),
                ("isola project switch default", "back again"),
            ),
        ),
        Command(
            "get-current",
            "Print the project of commands without --project",
            get_current,
            examples=(("isola project get-current", "its name"),),
        ),
        Command(
            "rename",
            "Rename an empty project",
            rename,
            _NAME,
            Argument("NEW", "The new name"),
            aliases=("mv",),
            examples=(("isola project rename blue green", "blue becomes green"),),
        ),
        Command(
            "delete",
            "Delete empty projects",
            delete,
            Argument("NAME", "One or several", many=True, complete="projects"),
            aliases=("rm",),
            examples=(("isola project delete blue", "an empty one"),),
        ),
    ),
)
