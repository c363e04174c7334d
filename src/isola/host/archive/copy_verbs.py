"""Verbs of the process that writes archives, about files that a build copies (see ``archiver``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from isola.host import cell, confine
from isola.host.archive.choosing import Choosing, Kept, Wanted
from isola.host.archive.layerpack import LayerPacking, opened
from isola.host.archive.output import created, flush
from isola.host.archive.placing import Change, Placing, owner_of
from isola.host.cell import Cell, Inside
from isola.host.exhaustion import host_refused
from isola.model.file_mode import FileMode
from isola.model.ignore import Patterns

_SECONDS = 4 * 3600
_ROOT = "root"


def survey_copy(*, sources: list[dict[str, Any]]) -> bytes:
    """The digest of what would be copied, and the number of files."""

    def work(inside: Inside) -> Mapping[str, object]:
        choosing = _chosen(sources)
        try:
            return {"digest": choosing.digest(), "entries": len(choosing.found)}
        except OSError as error:
            raise host_refused("Cannot read the files to copy", error) from error

    return cell.run(_cell(sources, None, ()), work)


def copy_layer(
    *,
    sources: list[dict[str, Any]],
    root: str | None,
    place: str,
    owner: str,
    mode: str,
    like_source: bool,
    target: str,
    compression: str,
    newest: int | None,
    now: int,
    limit: int,
) -> bytes:
    """Write a layer with the files at ``place`` of the root; without any difference it has no entries."""
    output = created(target, compression)

    def work(inside: Inside) -> Mapping[str, object]:
        below = None if root is None else opened(f"/{_ROOT}")
        packing = LayerPacking(output, compression=compression, newest=newest, limit=limit)
        try:
            uid, gid = owner_of(owner, below)
            change = Change(uid, gid, FileMode.parse(mode) if mode else None)
            placing = Placing(below, change, like_source=like_source)
            placing.choose(_chosen(sources), place)
            if placing.changes:
                placing.write(packing, newest, now)
                flush(output)
        except OSError as error:
            raise host_refused("Cannot copy the files", error) from error
        return {"diff_id": packing.diff_id, "entries": packing.entries, "bytes": packing.bytes, "skipped": 0}

    return cell.run(_cell(sources, root, (output.fileno(),)), work)


VERBS: Mapping[str, Callable[..., bytes]] = {"survey_copy": survey_copy, "copy_layer": copy_layer}


def _chosen(sources: list[dict[str, Any]]) -> Choosing:
    choosing = Choosing()
    try:
        choosing.run(
            [
                Wanted(
                    opened(f"/{number}"),
                    each["patterns"],
                    Kept(each["keep_owner"], each["keep_mode"], each["modified"]),
                    each["parents"],
                    Patterns(each["excludes"]) if each["excludes"] else None,
                    each["name"],
                )
                for number, each in enumerate(sources)
            ]
        )
    except OSError as error:
        raise host_refused("Cannot read the files to copy", error) from error
    return choosing


def _cell(sources: list[dict[str, Any]], root: str | None, keep: tuple[int, ...]) -> Cell:
    trees = {str(number): Path(each["tree"]) for number, each in enumerate(sources)}
    return Cell(
        shown=trees if root is None else trees | {_ROOT: Path(root)},
        foreign=True,  # an overlay, or a tree that is id-mapped already
        capabilities=(confine.CAP_DAC_READ_SEARCH,),
        keep=keep,
        file_size=1 << 50,
        seconds=_SECONDS,
    )
