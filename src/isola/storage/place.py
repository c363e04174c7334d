"""Directories of pools: the key ``source``, and trials of the features of a file system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, IsolaError
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.mounts import BindMount
from isola.model.identity import IdRange
from isola.model.probe import Probe

Trial = Callable[[Path], Awaitable[None]]
_TRIAL_RANGE = IdRange(100000)


def source_path(value: str) -> str:
    """Parser of a directory's path."""
    path = Path(value)
    if "\0" in value or not path.is_absolute() or ".." in path.parts:
        raise ValueError("expected the absolute path of an empty directory")
    return value


def no_size(reason: str) -> Callable[[str], str]:
    """Parser that refuses, for drivers that cannot limit their pools."""

    def refuse(value: str) -> str:
        raise ValueError(reason)

    return refuse


async def tried(host: Host, place: Path, trial: Trial) -> Probe:
    """The result of a trial in a temporary directory."""
    version = host.system.kernel().release
    try:
        await host.files.make_directory(place, mode=0o700)
        await trial(place)
    except IsolaError as error:
        why = f"{error.message}: {error.evidence}" if error.evidence else error.message
        return Probe(False, version, reason=why, remedy=error.remedy)
    finally:
        await finish(clear_trial(host, place))
    return Probe(True, version)


async def require_empty(host: Host, place: Path, otherwise: str, trial: Trial) -> None:
    """Raise InvalidInput unless a directory exists, is empty, and passes a trial."""
    if not await host.files.exists(place):
        raise InvalidInput(f"{place} does not exist", field="config.source", remedy="create the directory first")
    if await host.files.names(place):
        raise InvalidInput(f"{place} is not empty", field="config.source", remedy="name an empty directory")
    directory = place / ".trial"
    try:
        await host.files.make_directory(directory, mode=0o700)
        await trial(directory)
    except HostFailure as error:
        raise InvalidInput(f"{place} {otherwise}", evidence=str(error), field="config.source") from error
    finally:
        await finish(clear_trial(host, directory))


async def nearest(host: Host, directory: Path) -> Path:
    """The directory, or the nearest one above it that exists."""
    for place in (directory, *directory.parents):
        if await host.files.exists(place):
            return place
    return directory


async def clear_trial(host: Host, place: Path) -> None:
    """Unmount and remove all of it."""
    for mount in await host.mounts.below(place):
        await host.mounts.unmount(mount)
    await host.files.remove_tree(place)


async def try_shifting(host: Host, place: Path) -> None:
    """Raise HostFailure if a directory cannot be mounted with shifted ids."""
    source, shown = place / "source", place / "shown"
    await host.files.make_directory(source, shown, mode=0o755)
    await host.files.write(source / "file", b"trial")
    await host.mounts.bind(BindMount(source, shown, _TRIAL_RANGE))
    try:
        async with host.files.root(shown) as seen:
            owner = (await seen.stat("/file")).uid
        if owner != _TRIAL_RANGE.base:
            raise HostFailure("Id-mapped mounts do not work", evidence=f"{owner}", remedy="use Linux 5.19 or later")
    finally:
        await finish(host.mounts.unmount(shown))
