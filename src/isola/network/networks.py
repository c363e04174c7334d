"""Networks: records and the drivers that stand behind them.

Contract (to be implemented here)::

    class Networks:
        def __init__(self, host: Host, records: Collection[Network], operations: Operations, events: Events,
                     directory: Path, names: HostNames,
                     nics: Callable[[str], Sequence[Nic]] = lambda network: (),     # NICs of all instances on it
                     used_by: Callable[[str], Sequence[str]] = lambda name: ()) -> None
        probes: dict[str, Probe]
        async def probe(self) -> None
        async def open(self) -> None                       # at daemon start: remove half-made ones, start() all,
                                                           # adopt running dnsmasq, clean() leftovers
        async def close(self) -> None                      # nothing is stopped: instances go on
        def __iter__(self) -> Iterator[Network]
        def get(self, name: str) -> Network                # NotFound
        def revision(self, name: str) -> int
        def driver(self, name: str) -> NetworkDriver
        async def create(self, op: Operation, network: Network) -> Network   # name, driver, config as asked for
        async def update(self, op: Operation, name: str, description: str, config: Mapping[str, str]) -> None
        async def rename(self, op: Operation, old: str, new: str) -> None     # InUse when used
        async def delete(self, op: Operation, name: str) -> None              # InUse naming users
        def used_by(self, name: str) -> Sequence[str]      # API paths
        def allocate(self, network: str, mac: str, *, ipv4: str | None = None, ipv6: str | None = None,
                     taken: Sequence[Nic] = ...) -> tuple[str | None, str | None]
            # pure choice of a free address pair (IPv4 from the DHCP range; IPv6 by EUI-64 in a /64); wanted addresses
            # are checked (InvalidInput: outside the subnet, AlreadyExists: taken). Costs the same with 1 and 1000 NICs.
        async def leases(self, name: str) -> Sequence[Lease]
        async def state(self, name: str) -> Mapping[str, object]
        async def stop_all(self) -> None                   # for `isolad --shutdown` / make down: takes all networks down
"""
