"""Application containers of a runtime driver, and what the kernel says of their program."""

from __future__ import annotations

from runtime_bench import Bench

from isola.runtimes import RunSpec

_APPLICATION = {"system": False, "command": ("/bin/sleep", "1000"), "terminal": False}


def application(bench: Bench, **more: object) -> RunSpec:
    return bench.spec(**_APPLICATION | more)  # type: ignore[arg-type]


async def status_of(bench: Bench, field: str) -> str:
    """A line of /proc/1/status, as the program's."""
    _, text, _ = await bench.run("cat", "/proc/1/status")
    return next(line.partition(":")[2].strip() for line in text.decode().splitlines() if line.startswith(f"{field}:"))


async def has(bench: Bench, capability: int) -> bool:
    return bool(int(await status_of(bench, "CapEff"), 16) >> capability & 1)
