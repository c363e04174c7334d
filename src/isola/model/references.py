"""Which objects use another one, as text for messages."""

from __future__ import annotations

from collections.abc import Sequence

from isola.model.reference import Entity

_SHOWN = 5


def users_text(users: Sequence[Entity]) -> str:
    """``instance web1, profile default``."""
    shown = ", ".join(map(str, users[:_SHOWN]))
    return shown + (f" and {len(users) - _SHOWN} more" if len(users) > _SHOWN else "")
