"""Asks a confined process for its answer, with or without a file that it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from isola.errors import AlreadyExists
from isola.host.archive.answers import Answer, read_answer
from isola.host.archive.forked import Forked, died
from isola.host.threads import in_thread


async def ask(
    forked: Forked,
    verb: str,
    request: Mapping[str, object],
    on_line: Callable[[str], None] | None = None,
    descriptor: int | None = None,
) -> Answer:
    """Raises the error that it reports, or HostFailure."""
    done = await forked.run({"verb": verb, **request}, on_line=on_line, descriptor=descriptor)
    if done.status != 0:
        raise died(done)
    return read_answer(done.stdout)


async def ask_for_file(
    forked: Forked,
    verb: str,
    target: Path | None,
    request: Mapping[str, object],
    on_line: Callable[[str], None] | None = None,
) -> Answer:
    """The same for what writes the new file ``target``, if any: leaves no file if it fails."""
    try:
        return await ask(forked, verb, request, on_line)
    except BaseException as error:
        if target is not None and not isinstance(error, AlreadyExists):
            await in_thread(target.unlink, missing_ok=True)
        raise
