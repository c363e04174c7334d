"""``isola config``: configuration of instances."""

from __future__ import annotations

from isola.cli.grammar import Argument, Group
from isola.cli.keys import key_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.operations import Operation


def _read(context: Context, name: str) -> tuple[Mapping[str, Any], str]:
    return context.client.instances.read(name)


def _write(context: Context, name: str, whole: Mapping[str, Any], etag: str) -> Operation:
    return context.client.instances.update(name, whole, etag=etag)


COMMANDS = (
    Group(
        "config",
        "Read and change the configuration of instances; limits change live",
        *key_commands(
            "config",
            Argument("NAME", "The instance", complete="instances"),
            read=_read,
            write=_write,
            fields=("architecture", "config", "description", "devices", "ephemeral", "profiles"),
            example=("limits.memory", "512MiB"),
        ),
    ),
)
