"""Profiles.

Contract (being implemented)::

    class Profiles:
        def __init__(self, records: Collection[Profile], events: Events, validate: Callable[[Config, Devices], None],
                     used_by: Callable[[str], Sequence[str]], changed: Callable[[str], Awaitable[None]]) -> None
        def __iter__(self) -> Iterator[Profile]
        def get(self, name: str) -> Profile
        def revision(self, name: str) -> int
        def used_by(self, name: str) -> Sequence[str]
        async def create(self, profile: Profile) -> None
        async def update(self, name: str, description: str, config: Config, devices: Devices) -> None
        async def rename(self, old: str, new: str) -> None          # Forbidden for "default"
        async def delete(self, name: str) -> None                   # InUse; Forbidden for "default"
"""
