"""What a driver says that it can do works, and the rest is refused; for all fakes too."""

from __future__ import annotations

import pytest
from runtime_bench import PROGRAMS, Bench, booted
from runtime_verbs import VERBS

from isola.errors import Unsupported
from isola.testing.runtime import FakeRuntime


async def test_a_guest_can_do_what_its_driver_says_and_refuses_the_rest(bench: Bench) -> None:
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.programs |= PROGRAMS
    guest = await bench.launch(bench.spec())
    await booted(bench)
    for capability, verb in VERBS.items():
        if bench.has(capability):
            await verb(guest)
        else:
            with pytest.raises(Unsupported):
                await verb(guest)
