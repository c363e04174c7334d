"""Image tokens: a client that has the secret may download the image while the token's operation runs."""

from __future__ import annotations

from isola.host.clock import Clock
from isola.model.caller import DAEMON, Caller
from isola.model.image import Image
from isola.operations import Operation, Operations

_SECONDS = 3600
_SECRET = "secret"


def lend(operations: Operations, clock: Clock, image: Image, *, caller: Caller = DAEMON) -> Operation:
    """Start an operation of class ``token``, with the secret in its metadata."""

    async def work(op: Operation) -> None:
        await clock.sleep(_SECONDS)

    return operations.start(
        "Image download token",
        work,
        kind="token",
        resources=[image.entity],
        caller=caller,
        metadata={_SECRET: clock.token(32)},
    )


def is_lent(operations: Operations, image: Image, secret: str) -> bool:
    """Whether the secret is currently valid for the image."""
    return bool(secret) and any(
        operation.kind == "token"
        and not operation.status.final
        and image.entity in operation.resources
        and operation.metadata.get(_SECRET) == secret
        for operation in operations
    )
