"""The first start in a directory: a pool, a network and the default profile, so that `launch` works at once."""

from __future__ import annotations

from isola.daemon.build import Parts
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.storage import Pool
from isola.operations import Operation

POOL = "default"
NETWORK = "isolabr0"
_MARK = "bootstrap"


async def bootstrap(parts: Parts, *, minimal: bool = False) -> None:
    """Make what a newcomer needs, once; a start that was interrupted goes on where it was.

    ``minimal`` makes the default profile only, without devices.
    """
    if parts.records.server.find(_MARK) is not None:
        return
    services = parts.services
    devices: dict[str, dict[str, str]] = {}
    if not minimal:
        if parts.records.pools.find(POOL) is None:
            await _do(parts, "Creating storage pool", lambda op: services.pools.create(op, Pool(POOL)))
        devices["root"] = {"type": "disk", "path": "/", "pool": POOL}
        if services.networks.probes["bridge"].available:
            if parts.records.networks.find(NETWORK) is None:
                await _do(parts, "Creating network", lambda op: services.networks.create(op, Network(NETWORK)))
            devices["eth0"] = {"type": "nic", "name": "eth0", "network": NETWORK}
    if parts.records.profiles.find("default") is None:
        await services.profiles.create(Profile("default", "Default Isola profile", devices=devices))
    await parts.records.server.put(_MARK, {"done": "true"})


async def _do(parts: Parts, description: str, work: object) -> None:
    operation: Operation = parts.services.operations.start(description, work)  # type: ignore[arg-type]
    await parts.services.operations.finish(operation)
