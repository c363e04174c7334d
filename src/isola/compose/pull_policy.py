"""``pull_policy``: whether an image is fetched although it is there. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_NAMED = {"daily": "1d", "weekly": "1w"}


def refreshed_after(service: Mapping[str, Any], policy: str) -> int | None:
    """Seconds after which an image is fetched again; None for a policy that does not look at its age."""
    if policy == "refresh":
        policy = str(service.get("pull_refresh_after") or "every_0s")
    period = _NAMED.get(policy) or (policy.removeprefix("every_") if policy.startswith("every_") else "")
    parts = re.findall(r"([0-9]+)([wdhms])", period)
    return sum(int(amount) * _SECONDS[unit] for amount, unit in parts) if parts else None
