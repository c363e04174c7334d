"""``post_start`` and ``pre_stop``: commands inside an instance, after its start and before it is stopped."""

from __future__ import annotations

from isola.errors import HostFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.shapes import InstanceInfo

POST_START, PRE_STOP = "post_start", "pre_stop"
_SHELL = ("/bin/sh", "-c")


def run_hooks(context: Context, service: Mapping[str, Any], one: InstanceInfo, kind: str) -> None:
    """One after another, as the program's user unless they say more. Raises HostFailure for one that fails."""
    from isola.client.exec import collect

    for hook in service.get(kind, ()):
        given = hook["command"]
        command = [*_SHELL, given] if isinstance(given, str) else list(given)
        user, cwd = (str(one["program"].get(key) or "") for key in ("user", "cwd"))
        user = str(hook.get("user") or user or "0")
        session = context.client.instances.exec(
            one["name"],
            command,
            user=int(user) if user.isascii() and user.isdigit() else user,
            cwd=hook.get("working_dir") or cwd,
            environment={key: value or "" for key, value in (hook.get("environment") or {}).items()},
        )
        ended = collect(session)
        if ended.status:
            output = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-500:]
            raise HostFailure(f"{kind} of {one['name']} has ended with status {ended.status}", evidence=output)
