"""``isola warning``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.output import DOCUMENT_FORMAT, FORMAT, Column, document, show
from isola.client.paths import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_ID = Argument("ID", "The warning's id, or the beginning of it", complete="warnings")
_MAYBE = Argument("ID", "The warning's id, or the beginning of it", complete="warnings", optional=True)

_COLUMNS = (
    Column("ID", "uuid"),
    Column("WHAT", "type"),
    Column("ON", lambda item: short(str(item.get("entity_url") or ""))),
    Column("STATUS", "status"),
    Column("SEVERITY", "severity"),
    Column("COUNT", "count"),
    Column("LAST SEEN", lambda item: str(item.get("last_seen_at") or "")[:19].replace("T", " ")),
    Column("MESSAGE", "last_message"),
)


def list_warnings(context: Context) -> None:
    """Print the warnings that are new, or all."""
    found = context.client.warnings.all()
    everything = context.args.flag("all")
    show(context, [each for each in found if everything or each.get("status") == "new"], _COLUMNS)


def show_warning(context: Context) -> None:
    """Print one warning."""
    document(context, context.client.warnings.get(_full(context)))


def acknowledge(context: Context) -> None:
    """Mark a warning as seen."""
    context.client.warnings.mark(_full(context), "acknowledged")


def delete(context: Context) -> None:
    """Remove a warning, or all."""
    warnings = context.client.warnings
    if bool(context.args.text("ID")) == context.args.flag("all"):
        raise UsageError("Either the id of a warning or --all")
    for id in [str(each["uuid"]) for each in warnings.all()] if context.args.flag("all") else [_full(context)]:
        warnings.delete(id)


def _full(context: Context) -> str:
    """The full id for a prefix."""
    typed = context.args.text("ID")
    if len(typed) >= 36:
        return typed
    found = [id for id in (str(each["uuid"]) for each in context.client.warnings.all()) if id.startswith(typed)]
    return found[0] if len(found) == 1 else typed


COMMANDS = (
    Group(
        "warning",
        "Warnings of the daemon",
        Command(
            "list",
            "List warnings that are new",
            list_warnings,
            Option("-a --all", "Also acknowledged and resolved ones"),
            FORMAT,
            aliases=("ls",),
            examples=(("isola warning list", "warnings that need attention"),),
        ),
        Command(
            "show",
            "Show a warning",
            show_warning,
            _ID,
            DOCUMENT_FORMAT,
            examples=(("isola warning show 3f2a", "as YAML"),),
        ),
        Command(
            "acknowledge",
            "Mark a warning as seen",
            acknowledge,
            _ID,
            aliases=("ack",),
            examples=(("isola warning acknowledge 3f2a", "it is no longer listed"),),
        ),
        Command(
            "delete",
            "Remove a warning; it is created again when it recurs",
            delete,
            _MAYBE,
            Option("-a --all", "Remove all warnings"),
            aliases=("rm",),
            examples=(("isola warning delete 3f2a", "remove it"),),
        ),
    ),
)
