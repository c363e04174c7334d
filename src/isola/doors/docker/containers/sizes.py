"""Disk usage of containers."""

from __future__ import annotations

from isola.doors.docker.request import Request
from isola.model.instance import Instance


async def sizes_of(request: Request, instance: Instance) -> tuple[int, int]:
    """Bytes of its own, and with the layers of its image (compressed, as they are stored). Walks its root."""
    state = await request.services.instances.state(instance, disk=True)
    own = state.disk.get("root", 0)
    return own, own + sum(layer.size for layer in instance.start.blobs)
