"""A checked application as a compose file that can be read again. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_DURATIONS = ("interval", "timeout", "start_period", "start_interval", "stop_grace_period", "delay", "window")


def rendered(value: Any) -> Any:
    """Durations with their units, and dollar signs that are no variables."""
    if isinstance(value, dict):
        return {key: _duration(item) if key in _DURATIONS else rendered(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rendered(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    return f"{value:f}".rstrip("0").rstrip(".") + "s" if isinstance(value, float) else rendered(value)


def digest(service: Any) -> str:
    """Of what a service says; the same for the same text."""
    return hashlib.sha256(json.dumps(service, sort_keys=True, default=str).encode()).hexdigest()
