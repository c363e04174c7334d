"""``isola profile``."""

from __future__ import annotations

from isola.cli.devices import device_group
from isola.cli.grammar import Argument, Command, Group
from isola.cli.learning import LEARN, REFUSALS
from isola.cli.noun import Noun
from isola.cli.output import ALL_PROJECTS, FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.operations import Operation

_NOUN = Noun(
    "profile",
    "profile",
    lambda context: context.client.profiles,
    sample="small",
    key=("limits.memory", "256MiB"),
    fields=("config", "description", "devices"),
)
_COLUMNS = (
    Column("NAME", "name"),
    Column("DESCRIPTION", "description"),
    Column("DEVICES", lambda item: ", ".join(sorted(item.get("devices") or ()))),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
)


def list_profiles(context: Context) -> None:
    """Print the profiles."""
    show(context, _NOUN.all(context), _COLUMNS)


def create(context: Context, name: str, config: dict[str, str], description: str) -> Operation:
    """Create a profile."""
    return context.client.profiles.create(name, {"config": config, "description": description})


COMMANDS = (
    Group(
        "profile",
        "Configuration and devices shared by instances",
        Command(
            "list",
            "List profiles",
            list_profiles,
            ALL_PROJECTS,
            FORMAT,
            aliases=("ls",),
            examples=(("isola profile list", "all profiles"),),
        ),
        _NOUN.creation(
            create,
            keys=Argument("KEY=VALUE", "Configuration", many=True, optional=True, complete="instance-keys"),
            examples=(
                ("isola profile create small limits.memory=256MiB limits.cpu=1", "limits for several instances"),
            ),
        ),
        *_NOUN.keys(),
        device_group(
            "profile", _NOUN.argument, read=_NOUN.read, write=_NOUN.write, fields=_NOUN.fields, sample="small"
        ),
        LEARN,
        REFUSALS,
        _NOUN.renaming("Rename a profile", "tiny"),
        _NOUN.deletion("Delete profiles", "an unused one"),
    ),
)
