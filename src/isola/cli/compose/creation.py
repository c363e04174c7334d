"""Creating an instance of a service."""

from __future__ import annotations

from isola.cli.compose.stored import push
from isola.model.isolation import ISOLATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.compose.application import Application
    from isola.compose.instances import Design


def create(
    context: Context, application: Application, service: str, found: Design, *, name: str = "", ephemeral: bool = False
) -> None:
    """With its configs and secrets; ``name``: in place of the design's."""
    isolation, runtime = (found.runtime, "") if found.runtime in ISOLATIONS else ("", found.runtime)
    operation = context.client.instances.create(
        image=found.image,
        name=name or found.name,
        config=found.config,
        devices=found.devices,
        program=found.program,
        terminal=found.terminal,
        stdin=found.stdin,
        isolation=isolation,
        runtime=runtime,
        ephemeral=ephemeral,
    )
    context.follow(operation, f"Creating {found.name}")
    push(context.client, application, service, name or found.name)
