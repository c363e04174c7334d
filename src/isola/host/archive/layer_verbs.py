"""Verbs of the process that writes archives, about what a tree changed of the one below it (see ``archiver``)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from isola.errors import HostFailure
from isola.host import cell, confine
from isola.host.archive.changed import Comparing
from isola.host.archive.layerpack import LayerPacking, asking, opened, write_list
from isola.host.archive.output import created, flush
from isola.host.cell import Cell, Inside
from isola.host.exhaustion import host_refused

_OPAQUE = "trusted.overlay.opaque"
_QUESTION = "opaque?"
_SECONDS = 24 * 3600
_NEW, _OLD = "new", "old"


def pack_layer(
    *, new: str, old: str | None, layered: bool, target: str, compression: str, newest: int | None, limit: int,
    leave_out: list[str],
) -> bytes:  # fmt: skip
    """Write a layer with what ``new`` changed of ``old``."""
    output = created(target, compression)
    left_out = frozenset(map(os.fsencode, leave_out))

    def work(inside: Inside) -> Mapping[str, object]:
        packing = LayerPacking(output, compression=compression, newest=newest, limit=limit)
        top, comparing = _comparing(inside, old is not None, layered)
        try:
            packing.run(top, comparing, left_out)
            flush(output)
        except OSError as error:
            raise host_refused("Cannot pack the changes", error) from error
        counts = {"entries": packing.entries, "bytes": packing.bytes, "skipped": comparing.skipped}
        return {"diff_id": packing.diff_id, **counts}

    return cell.run(_cell(new, old, output), work, confirm)


def list_changes(*, new: str, old: str | None, layered: bool, target: str, limit: int) -> bytes:
    """Write the list of paths that differ."""
    output = created(target, "none")

    def work(inside: Inside) -> Mapping[str, object]:
        _, comparing = _comparing(inside, old is not None, layered)
        try:
            count = write_list(output, comparing, limit=limit)
            output.flush()
        except OSError as error:
            raise HostFailure("Cannot compare the trees", evidence=str(error)) from error
        return {"entries": count}

    return cell.run(_cell(new, old, output), work, confirm)


VERBS: Mapping[str, Callable[..., bytes]] = {"pack_layer": pack_layer, "list_changes": list_changes}


def confirm(what: str, descriptor: int) -> None:
    """Whether a directory is opaque, an attribute that only the host's root can read. Raises OSError if it is not."""
    if what != _QUESTION or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise PermissionError(errno.EPERM, "The packer made a request that is not permitted")
    if os.getxattr(descriptor, _OPAQUE) != b"y":
        raise OSError(errno.ENODATA, "not opaque")


def _comparing(inside: Inside, below: bool, layered: bool) -> tuple[int, Comparing]:
    top = opened(f"/{_NEW}")
    old = opened(f"/{_OLD}") if below else None
    return top, Comparing(top, old, layered=layered, is_opaque=asking(inside.ask, _QUESTION))


def _cell(new: str, old: str | None, output: BinaryIO) -> Cell:
    trees = {_NEW: Path(new)} | ({_OLD: Path(old)} if old is not None else {})
    return Cell(
        shown=trees,
        foreign=True,  # an overlay, or a tree that is id-mapped already
        capabilities=(confine.CAP_DAC_READ_SEARCH,),
        keep=(output.fileno(),),
        file_size=1 << 50,
        seconds=_SECONDS,
    )
