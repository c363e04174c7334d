"""``isola compose up`` that stays until an instance has ended: prints output, then stops the application."""

from __future__ import annotations

import threading
import time

from isola.cli.compose.down import stop_running
from isola.cli.compose.logs import show as show_logs
from isola.cli.compose.server import instances
from isola.client.runs import output
from isola.client.writing import write_all
from isola.compose.instances import SERVICE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from isola.cli.context import Context
    from isola.compose.application import Application

_PAUSE = 0.3


def until_end(
    context: Context,
    application: Application,
    services: Collection[str],
    *,
    code_of: str = "",
    only_failures: bool = False,
    seconds: int | None = None,
    since: int,
) -> int:
    """Until one of the services' instances has ended, or with ``only_failures`` has failed; then all are stopped.

    Output is printed from ``since`` on, in nanoseconds since 1970.
    Returns its exit status, or that of the service ``code_of``.
    """
    names = [one["name"] for one in _of(context, application, services)]
    shown = threading.Thread(target=_show, args=(context, names, since), daemon=True)
    shown.start()
    try:
        while not (ended := _ended(context, application, services, only_failures=only_failures)):
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        stop_running(context, application, _of(context, application, services), seconds)
        return 130
    first = ended[0]
    context.say(f"{first['name']} has ended with status {_status(first)}: stopping")
    stop_running(context, application, _of(context, application, services), seconds)
    shown.join(10)
    if code_of:
        chosen = [one for one in _of(context, application, services) if one["config"].get(SERVICE) == code_of]
        return max((_status(context.client.instances.get(one["name"])) for one in chosen), default=1)
    return _status(first)


def _show(context: Context, names: list[str], since: int) -> None:
    show_logs(
        names,
        context.connect,
        lambda client, name: output(client, name, follow=True, since=since),
        write_all,
        prefix=True,
    )


def _of(context: Context, application: Application, services: Collection[str]) -> list[Any]:
    return [one for one in instances(context.client, application.name) if one["config"].get(SERVICE) in services]


def _ended(
    context: Context, application: Application, services: Collection[str], *, only_failures: bool
) -> list[dict[str, Any]]:
    """The instances that do not run any more, those that failed first; one that is restarted runs."""
    found = [one for one in _of(context, application, services) if one["status"] == "Stopped"]
    found.sort(key=lambda one: _status(one) == 0)
    return [one for one in found if _status(one) or not only_failures]


def _status(one: Any) -> int:
    return int((one.get("last_run") or {}).get("exit_status") or 0)
