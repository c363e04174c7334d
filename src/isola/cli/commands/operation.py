"""``isola operation``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Group
from isola.cli.output import ALL_PROJECTS, DOCUMENT_FORMAT, FORMAT, Column, document, show, time_of
from isola.client.paths import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.cli.output import Item

_ID = Argument("ID", "The operation's id, or the beginning of it", complete="operations")


def _resources(item: Item) -> str:
    paths = [str(path) for found in (item.get("resources") or {}).values() for path in found]
    return "\n".join(dict.fromkeys(short(path) for path in paths))  # older LXD field names list it twice


_COLUMNS = (
    Column("ID", "id"),
    Column("WHAT", "description"),
    Column("STATUS", "status"),
    Column("CANCELABLE", "may_cancel"),
    Column("ON", _resources),
    Column("SINCE", lambda item: time_of(item.get("created_at"))),
)


def list_operations(context: Context) -> None:
    """Print the operations."""
    found = context.client.operations.all()
    show(context, sorted(found, key=lambda operation: operation.get("created_at", "")), _COLUMNS)


def show_operation(context: Context) -> None:
    """Print the details of an operation."""
    document(context, context.client.operations.get(_full(context)).info)


def wait(context: Context) -> None:
    """Wait for an operation, with its progress shown. Ctrl-C cancels it."""
    operation = context.client.operations.get(_full(context))
    context.follow(operation, operation.info.get("description", ""))


def cancel(context: Context) -> None:
    """Cancel an operation; its changes are rolled back."""
    context.client.operations.get(_full(context)).cancel()


def _full(context: Context) -> str:
    """The full id for a prefix."""
    typed = context.args.text("ID")
    if len(typed) >= 36:
        return typed
    known = [str(info.get("id")) for info in context.client.operations.all()]
    found = [id for id in known if id.startswith(typed)]
    return found[0] if len(found) == 1 else typed


COMMANDS = (
    Group(
        "operation",
        "Background work of the daemon",
        Command(
            "list",
            "List operations",
            list_operations,
            ALL_PROJECTS,
            FORMAT,
            aliases=("ls",),
            examples=(("isola operation list", "running and recent operations"),),
        ),
        Command(
            "show",
            "Show the details of an operation",
            show_operation,
            _ID,
            DOCUMENT_FORMAT,
            examples=(("isola operation show 3f2a", "as YAML"),),
        ),
        Command(
            "wait", "Wait for an operation's end", wait, _ID, examples=(("isola operation wait 3f2a", "with progress"),)
        ),
        Command(
            "cancel",
            "Cancel an operation; its changes are rolled back",
            cancel,
            _ID,
            aliases=("delete",),
            examples=(("isola operation cancel 3f2a", "cancel it and roll back"),),
        ),
    ),
)
