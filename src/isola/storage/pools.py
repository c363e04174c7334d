"""Storage pools: records and the drivers that stand behind them.

Contract (to be implemented here)::

    class Pools:
        def __init__(self, host: Host, records: Collection[Pool], operations: Operations, events: Events,
                     directory: Path, used_by: Callable[[str], Sequence[str]] = lambda name: ()) -> None
        probes: dict[str, Probe]                          # driver name -> probe, filled by probe()
        async def probe(self) -> None
        async def open(self) -> None                      # at daemon start: drivers for all records, clean() each
        def __iter__(self) -> Iterator[Pool]
        def get(self, name: str) -> Pool                  # NotFound
        def revision(self, name: str) -> int
        def driver(self, name: str) -> StorageDriver      # NotFound
        async def create(self, op: Operation, pool: Pool) -> None          # validates, record ready=False first, then
                                                          # driver.create_pool, then op.commit(record ready=True)
        async def update(self, name: str, description: str, config: Mapping[str, str]) -> None
        async def delete(self, op: Operation, name: str) -> None           # InUse naming users
        def used_by(self, name: str) -> Sequence[str]     # API paths
        async def space(self, name: str) -> Space
"""
