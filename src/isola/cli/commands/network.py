"""``isola network``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.noun import Noun
from isola.cli.output import ALL_PROJECTS, FORMAT, Column, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.operations import Operation

_NOUN = Noun("network", "network", lambda context: context.client.networks, sample="lab", key=("ipv4.nat", "false"))
_COLUMNS = (
    Column("NAME", "name"),
    Column("TYPE", "type"),
    Column("MANAGED", "managed"),
    Column("IPV4", lambda item: (item.get("config") or {}).get("ipv4.address", "")),
    Column("IPV6", lambda item: (item.get("config") or {}).get("ipv6.address", "")),
    Column("USED BY", lambda item: len(item.get("used_by") or ())),
    Column("STATUS", "status"),
    Column("DESCRIPTION", "description"),
)
_LEASES = (
    Column("HOSTNAME", "hostname"),
    Column("MAC ADDRESS", "hwaddr"),
    Column("IP ADDRESS", "address"),
    Column("TYPE", "type"),
)


def list_networks(context: Context) -> None:
    """Print the networks."""
    found = _NOUN.all(context)
    if not context.args.flag("all"):
        found = [network for network in found if network.get("managed")]
    show(context, found, _COLUMNS)


def create(context: Context, name: str, config: dict[str, str], description: str) -> Operation:
    """Create a network."""
    kind = context.args.text("type") or "bridge"
    return context.client.networks.create(name, type=kind, config=config, description=description)


def leases(context: Context) -> None:
    """Print the addresses in use."""
    show(context, context.client.networks.leases(context.args.text("NAME")), _LEASES)


COMMANDS = (
    Group(
        "network",
        "Networks that instances are connected to",
        Command(
            "list",
            "List networks",
            list_networks,
            ALL_PROJECTS,
            Option("-a --all", "Also the host's own links"),
            FORMAT,
            aliases=("ls",),
            examples=(("isola network list", "the networks of the daemon"),),
        ),
        _NOUN.creation(
            create,
            Option("-t --type", "The driver", value="TYPE", default="bridge"),
            keys=Argument(
                "KEY=VALUE",
                "Configuration; missing addresses are chosen",
                many=True,
                optional=True,
                complete="network-keys",
            ),
            examples=(
                ("isola network create lab", "with chosen addresses"),
                ("isola network create lab ipv4.address=10.9.8.1/24 ipv6.address=none", "with these addresses"),
            ),
        ),
        *_NOUN.keys(),
        Command(
            "leases",
            "List the addresses in use",
            leases,
            _NOUN.argument,
            FORMAT,
            examples=(("isola network leases isolabr0", "addresses with their instances"),),
        ),
        _NOUN.renaming("Rename a network that is not in use", "lab2"),
        _NOUN.deletion("Delete networks", "delete the network with its bridge"),
    ),
)
