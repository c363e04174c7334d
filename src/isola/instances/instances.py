"""All verbs of instances, as doors call them; each verb's work stands in a file of its own.

Contract (being implemented; the signatures below are what doors and tests may rely on)::

    class Instances:
        # reading: quick, from memory
        def __iter__(self) -> Iterator[Instance]
        def __len__(self) -> int
        def get(self, name: str, project: str = "default") -> Instance                  # NotFound
        def revision(self, name: str) -> int           # changes with every write of the record
        def status(self, instance: Instance) -> Status
        def expanded(self, instance: Instance) -> tuple[Config, Devices]                # with profiles, + volatile.*, image.*
        def config(self, instance: Instance) -> Config                                  # local + volatile.* + image.*
        def used_by_image/network/pool/profile(self, name: str) -> list[str]            # API paths
        def nics(self, network: str) -> list[Nic]
        async def state(self, instance: Instance, *, disk: bool = True) -> InstanceState
        # mutations: each returns the running Operation at once; validation errors are raised at once
        def create(self, request: InstanceRequest) -> Operation        # metadata gets {"instance": "/1.0/instances/x"}
        def start(self, name, *, stateful=False) -> Operation
        def stop(self, name, *, timeout: float | None = 30, force=False, stateful=False) -> Operation
        def restart(self, name, *, timeout=30, force=False) -> Operation
        def pause(self, name) / resume(self, name) -> Operation
        def rename(self, name, new) -> Operation
        def delete(self, name, *, force=False) -> Operation            # WrongState while running unless force
        def update(self, name, update: InstanceUpdate) -> Operation    # live where the key is live, else "after restart"
        def exec(self, name, request: ExecRequest) -> Operation        # kind "websocket", metadata {"fds": {...}, "command": [...], ...}
        def console(self, name, request: ConsoleRequest) -> Operation  # kind "websocket"
        # consoles, logs, files
        async def console_log(self, name) -> bytes; async def clear_console_log(self, name) -> None
        async def logs(self, name) -> Sequence[str]; async def read_log(self, name, file) -> bytes; async def delete_log(...)
        def files(self, name) -> AbstractAsyncContextManager[Root]     # works on running and stopped instances
"""
