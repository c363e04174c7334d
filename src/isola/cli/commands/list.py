"""``isola list``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import ALL_PROJECTS, FORMAT, Column, show, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isola.cli.context import Context
    from isola.cli.output import Item
    from isola.client.shapes import InstanceInfo


def _addresses(family: str) -> Callable[[Item], str]:
    def cell(item: Item) -> str:
        found = []
        for name, interface in ((item.get("state") or {}).get("network") or {}).items():
            for address in interface.get("addresses") or ():
                if address.get("family") == family and address.get("scope") == "global":
                    found.append(f"{address.get('address')} ({name})")
        return "\n".join(found)

    return cell


def _size(*path: str) -> Callable[[Item], str]:
    def cell(item: Item) -> str:
        from isola.model.units import format_size

        amount = _dig(item, *path)
        return format_size(amount) if isinstance(amount, int) and amount > 0 else ""

    return cell


def _dig(item: Item, *path: str) -> object:
    found: object = item
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _state(*path: str) -> Callable[[Item], object]:
    return lambda item: _dig(item, "state", *path) or ""


def _cpu(item: Item) -> str:
    used = _dig(item, "state", "cpu", "usage")
    return f"{used / 1e9:.0f}s" if isinstance(used, int) and used > 0 else ""


def _image(item: Item) -> str:
    config = item.get("expanded_config") or item.get("config") or {}
    return str(config.get("image.description") or config.get("volatile.base_image", "")[:12])


def _kind(item: Item) -> str:
    kind = str(item.get("isolation") or item.get("type") or "")
    return f"{kind} (ephemeral)" if item.get("ephemeral") else kind


def _when(key: str) -> Callable[[Item], str]:
    return lambda item: time_of(item.get(key), 16)


COLUMNS: dict[str, tuple[str, Column]] = {
    "n": ("name", Column("NAME", "name")),
    "e": ("project", Column("PROJECT", "project")),
    "s": ("status", Column("STATUS", "status")),
    "4": ("ipv4", Column("IPV4", _addresses("inet"))),
    "6": ("ipv6", Column("IPV6", _addresses("inet6"))),
    "t": ("isolation", Column("ISOLATION", _kind)),
    "i": ("image", Column("IMAGE", _image)),
    "a": ("architecture", Column("ARCHITECTURE", "architecture")),
    "c": ("created", Column("CREATED", _when("created_at"))),
    "l": ("last-used", Column("LAST USED", _when("last_used_at"))),
    "d": ("description", Column("DESCRIPTION", "description")),
    "P": ("profiles", Column("PROFILES", lambda item: "\n".join(item.get("profiles") or ()))),
    "r": ("runtime", Column("RUNTIME", "runtime")),
    "p": ("pid", Column("PID", _state("pid"))),
    "N": ("processes", Column("PROCESSES", _state("processes"))),
    "m": ("memory", Column("MEMORY", _size("state", "memory", "usage"))),
    "u": ("cpu", Column("CPU USED", _cpu)),
    "D": ("disk", Column("DISK", _size("state", "disk", "root", "usage"))),
    "h": ("health", Column("HEALTH", _state("health", "status"))),
    "f": ("fingerprint", Column("FINGERPRINT", lambda i: (i.get("config") or {}).get("volatile.base_image", "")[:12])),
}
DEFAULT = "ns46ti"
_SPARE = "6it"
"""Default columns to drop on a narrow terminal, in this order."""
_OBSERVED = frozenset("46pNmuDh")


def list_instances(context: Context) -> None:
    """Print the instances that match."""
    letters = _letters(context.args.text("columns") or DEFAULT)
    as_table = context.args.text("format") in ("", "table", "csv")
    state = not as_table or bool(_OBSERVED.intersection(letters))
    found = context.client.instances.all(state=state)
    filters = [_filter(text) for text in context.args.many("FILTER")]
    found = [item for item in found if all(matches(item) for matches in filters)]
    found.sort(key=lambda item: item.get("name", ""))
    if not found and as_table and not filters and context.args.text("format") != "csv":
        context.say("There are no instances yet; create one with: isola launch debian/12 web1")
        return
    if context.client.everywhere:
        letters = ["e", *(letter for letter in letters if letter != "e")]
    spare = _SPARE if letters == list(DEFAULT) else ""
    if "D" in letters and not context.client.everywhere:  # measured one instance at a time: it walks the volume
        for item in found:
            item["state"] = context.client.instances.state(item["name"])
    show(context, found, [COLUMNS[letter][1] for letter in letters], [COLUMNS[letter][1] for letter in spare])


def _letters(text: str) -> list[str]:
    """``ns4`` or ``name,status,ipv4``."""
    by_name = {name: letter for letter, (name, _) in COLUMNS.items()}
    names = text.split(",")
    if all(name in by_name for name in names):
        return [by_name[name] for name in names]
    unknown = [letter for letter in text.replace(",", "") if letter not in COLUMNS]
    if unknown:
        known = ", ".join(f"{letter} {name}" for letter, (name, _) in COLUMNS.items())
        raise UsageError(f"Unknown column {unknown[0]!r}", hint=f"columns are: {known}")
    return list(text.replace(",", ""))


def _filter(text: str) -> Callable[[InstanceInfo], bool]:
    """``status=running``, ``user.purpose=web``, or a part of the name."""
    key, equals, value = text.partition("=")
    if not equals:
        return lambda item: text in item.get("name", "")
    lowered = value.lower()

    def matches(item: InstanceInfo) -> bool:
        config = item.get("expanded_config") or item.get("config") or {}
        found = str(item.get("status", "")) if key in ("status", "state") else str(item.get(key, config.get(key, "")))
        return found.lower() == lowered

    return matches


def _details() -> str:
    rows: Sequence[str] = [f"  {letter}  {name}" for letter, (name, _) in COLUMNS.items()]
    return (
        "A filter is a part of the name, or KEY=VALUE of a field or configuration key.\n"
        "On a terminal the table fits its width: default columns without room are left out,\n"
        "and long cells are shortened.\n"
        "\nColumns:\n" + "\n".join(rows)
    )


COMMANDS = (
    Command(
        "list",
        "List instances",
        list_instances,
        Argument(
            "FILTER", "A part of the name, or KEY=VALUE (default: all)", optional=True, many=True, complete="instances"
        ),
        Option("-c --columns", "Columns by letter or name", value="COLUMNS", default=DEFAULT),
        ALL_PROJECTS,
        FORMAT,
        details=_details(),
        aliases=("ls", "ps"),
        examples=(
            ("isola list", "all instances"),
            ("isola list web status=running", "running ones with web in the name"),
            ("isola list -c nsmN", "name, status, memory, processes"),
            ("isola list -f json", "everything, for scripts"),
        ),
    ),
)
