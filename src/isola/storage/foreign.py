"""Finds files that others have put into the directories of a pool, and that its deletion would remove."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from isola.errors import InUse, IsolaError
from isola.host import Host
from isola.storage.trash import is_own

_UNFINISHED = re.compile(r"\.(partial|deleted)-.*")
_OWN = {
    "layers": re.compile(rf"[0-9a-f]{{64}}(\.json)?|\..*\.json\.[0-9a-f]{{12}}|{_UNFINISHED.pattern}", re.ASCII),
    "descriptions": re.compile(r".*\.json|\..*\.[0-9a-f]{12}", re.ASCII),
    "volumes": _UNFINISHED,
    "custom": _UNFINISHED,
}
"""Names that the daemon gives in the directories of a pool without volumes; the rest is foreign."""
_OWN_PLACES = (*_OWN, "mounts", "partial", ".trial")
_SHOWN = 5


async def foreign_files(host: Host, base: Path, directory: Path, own: Collection[str] = ()) -> Sequence[Path]:
    """Of a pool in ``base`` that no record names. ``directory`` is that of the pool below the daemon's directory.

    ``own``: names that a driver uses beside those of trees. Files beside them in a directory of the user are not
    removed with the pool, and are not returned.
    """
    found: list[Path] = []
    for place in {directory, base} if base.is_relative_to(directory) else {directory}:
        known = {*_OWN_PLACES, *own, *((base.name,) if place != base else ())}
        found += [place / name for name in await names_in(host, place) if name not in known]
    for part, names in _OWN.items():
        found += [base / part / name for name in await names_in(host, base / part) if not names.fullmatch(name)]
    found += [base / "partial" / name for name in await names_in(host, base / "partial") if not is_own(name)]
    return sorted(found + await _below_mount_points(host, base / "mounts"))


async def _below_mount_points(host: Host, mounts: Path) -> list[Path]:
    """What is in the directories of mount points, without what is mounted on them."""
    found: list[Path] = []
    mounted = set(await host.mounts.below(mounts))
    for name in await names_in(host, mounts):
        inside = await names_in(host, mounts / name)
        found += [mounts / name / each for each in inside if each != "root"]
        root = mounts / name / "root"
        found += [root / each for each in (await names_in(host, root) if root not in mounted else ())]
    return found


def refuse_foreign(pool: str, found: Sequence[Path]) -> None:
    """Raise InUse that names some of them."""
    if found:
        shown = ", ".join(str(path)[:200] for path in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InUse(
            f"Storage pool {pool!r} contains files that no record names",
            evidence=f"{shown}{more}",
            remedy="move them away or adopt them, then delete the pool",
        )


async def names_in(host: Host, directory: Path) -> Sequence[str]:
    """Empty for what is not a directory."""
    try:
        return await host.files.names(directory)
    except IsolaError:  # another program may have created anything
        return ()
