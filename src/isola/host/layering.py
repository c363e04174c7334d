"""Merge an unpacked image layer into the tree of the layers below it, as an overlay would show them.

The layer has the format of overlay: a character device 0:0 hides the entry of its name below, and a directory with
the attribute ``trusted.overlay.opaque`` hides the content of the lower one. Hidden entries are removed. No
other process has the trees open; links in them are never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from isola.host.directories import opened
from isola.host.trees import remove_tree

_OPAQUE = "trusted.overlay.opaque"
_DEPTH = 500
"""Maximum depth, with two descriptors for each level; unpacking refuses much shallower trees already."""


@dataclass(slots=True)
class _Pair:
    """A directory of the layer and the one of the same path below it, which exists."""

    layer: int
    target: int
    path: Path
    depth: int = 0


def merge_layer(layer: Path, target: Path) -> None:
    """Move all of ``layer``, a directory on the file system (and subvolume) of ``target``, onto it. Raises OSError.

    It may lie in ``target`` itself, and stays there, empty.
    """
    with opened(layer) as source, opened(target) as below:
        _merge(_Pair(source, below, target))


def _merge(pair: _Pair) -> None:
    status = os.fstat(pair.layer)
    if _is_opaque(pair.layer):
        for name in os.listdir(pair.target):
            if not os.path.samestat(os.stat(name, dir_fd=pair.target, follow_symlinks=False), status):
                remove_tree(pair.path / name)
    for name in os.listdir(pair.layer):
        _place(pair, name)
    _dress(pair.target, pair.layer, status)


def _place(pair: _Pair, name: str) -> None:
    here = os.stat(name, dir_fd=pair.layer, follow_symlinks=False)
    there = _look(name, pair.target)
    if _is_whiteout(here):
        os.unlink(name, dir_fd=pair.layer)
        if there is not None:
            remove_tree(pair.path / name)
        return
    if not stat.S_ISDIR(here.st_mode):
        if there is not None and stat.S_ISDIR(there.st_mode):
            remove_tree(pair.path / name)
        os.rename(name, name, src_dir_fd=pair.layer, dst_dir_fd=pair.target)
        return
    _place_directory(pair, name, there)


def _place_directory(pair: _Pair, name: str, there: os.stat_result | None) -> None:
    if there is not None and not stat.S_ISDIR(there.st_mode):
        os.unlink(name, dir_fd=pair.target)
        there = None
    if there is None:
        os.mkdir(name, 0o700, dir_fd=pair.target)
    if pair.depth >= _DEPTH:
        raise OSError(errno.ELOOP, "the layer's directories are nested too deeply")
    with opened(name, pair.layer) as source, opened(name, pair.target) as below:
        _merge(_Pair(source, below, pair.path / name, pair.depth + 1))
    os.rmdir(name, dir_fd=pair.layer)


def _dress(target: int, layer: int, status: os.stat_result) -> None:
    """The lower directory gets owner, mode, attributes and times of the layer's directory."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    wanted = [name for name in os.listxattr(layer) if not name.startswith("trusted.overlay.")]
    for name in set(os.listxattr(target)) - set(wanted):
        os.removexattr(target, name)
    for name in wanted:
        os.setxattr(target, name, os.getxattr(layer, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


def _look(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
