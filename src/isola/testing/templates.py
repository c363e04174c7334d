"""Rendering of trusted templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from isola.host.templates import Job, Rendered, Value


class FakeTemplates:
    """Renders in this process, and counts the calls."""

    def __init__(self) -> None:
        self.asked = 0

    async def render(self, jobs: Sequence[Job], values: Mapping[str, Value]) -> tuple[Rendered, ...]:
        from isola.host import renderer  # imported late: most tests do not need Jinja

        self.asked += 1
        return tuple(Rendered(**each) for each in renderer.render([asdict(job) for job in jobs], values))
