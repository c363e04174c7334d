"""Templates that tests know, rendered at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from isola.host.templates import Job, Rendered, Value


class FakeTemplates:
    """Renders in this process, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def render(self, jobs: Sequence[Job], values: Mapping[str, Value]) -> tuple[Rendered, ...]:
        from isola.host import renderer  # a library that most tests do without

        self.asked += 1
        return tuple(Rendered(**each) for each in renderer.render([asdict(job) for job in jobs], values))
