"""The first start in a directory: a pool, a network and the default profile, so that `launch` works at once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from isola.daemon.build import Parts
from isola.errors import IsolaError
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.reference import Ref
from isola.model.storage import Pool
from isola.operations import Operation

POOL = "default"
NETWORK = "isolabr0"
_MARK = "bootstrap"


log = logging.getLogger(__name__)


async def bootstrap(parts: Parts, *, minimal: bool = False) -> None:
    """Create these once; after a failure or interruption the next start continues.

    ``minimal`` creates only the default profile, without devices.
    """
    if parts.records.server.find(_MARK) is not None:
        return
    try:
        await _make(parts, minimal=minimal)
    except IsolaError as error:
        log.error("The default pool, network and profile could not be created; the next start tries again: %s", error)


async def _make(parts: Parts, *, minimal: bool) -> None:
    services = parts.services
    devices: dict[str, dict[str, str]] = {}
    if not minimal:
        if parts.records.pools.find(POOL) is None:
            if (await services.pools.unknown()).get(POOL) is not None:
                await _do(parts, "Adopting storage pool", lambda op: services.pools.adopt(op, POOL))
                await services.instances.look()
            else:
                await _do(parts, "Creating storage pool", lambda op: services.pools.create(op, Pool(POOL)))
        devices["root"] = {"type": "disk", "path": "/", "pool": POOL}
        if services.networks.probes["bridge"].available:
            if (await services.networks.unknown()).get(NETWORK) is not None:
                await _do(parts, "Adopting network", lambda op: services.networks.adopt(op, NETWORK))
            elif parts.records.networks.find(Ref.default(NETWORK)) is None:
                await _do(parts, "Creating network", lambda op: services.networks.create(op, Network(NETWORK)))
            devices["eth0"] = {"type": "nic", "name": "eth0", "network": NETWORK}
    if parts.records.profiles.find(Ref.default("default")) is None:
        await services.profiles.create(Profile("default", "Default Isola profile", devices=devices))
    await parts.records.server.put(_MARK, {"done": "true"}, at=0)


async def _do(parts: Parts, description: str, work: Callable[[Operation], Awaitable[object]]) -> None:
    operation = parts.services.operations.start(description, work)
    await parts.services.operations.finish(operation)
