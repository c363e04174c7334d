"""``instance_type`` of new instances: ``c2-m4`` stands for limits. Pure."""

from __future__ import annotations

import math
import re

from isola.errors import Unsupported

_NUMBER = r"[0-9]{1,4}(?:\.[0-9]{1,6})?"
_SIZES = re.compile(rf"c(?P<cpus>{_NUMBER})(?:-m(?P<memory>{_NUMBER}))?|m(?P<only>{_NUMBER})", re.ASCII)
_MIB = 1024
"""Mebibytes in a gibibyte, in which the type gives memory."""


def limits_of(type: str) -> dict[str, str]:
    """Keys of limits for ``c0.5-m0.2`` (CPUs, GiB), ``c2`` or ``m4``; none for an empty one.

    Raises Unsupported for types of clouds such as ``aws:t2.micro``.
    """
    if not type:
        return {}
    match = _SIZES.fullmatch(type)
    if match is None:
        raise Unsupported(
            f"Instance type {type[:80]!r} is not offered",
            field="instance_type",
            evidence="types of clouds are in a list on the Internet",
            remedy="use a type such as c2-m4 (2 CPUs, 4 GiB of memory), or limits.*",
        )
    return _cpus(float(match["cpus"] or 0)) | _memory(float(match["memory"] or match["only"] or 0))


def _cpus(cpus: float) -> dict[str, str]:
    whole = math.ceil(cpus)
    if not whole:
        return {}
    share = int(cpus / whole * 100)
    return {"limits.cpu": str(whole)} | ({"limits.cpu.allowance": f"{max(share, 1)}%"} if share < 100 else {})


def _memory(gibibytes: float) -> dict[str, str]:
    return {"limits.memory": f"{int(gibibytes * _MIB)}MiB"} if gibibytes else {}
