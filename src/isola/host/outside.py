"""Requests of callers that may not use the daemon to reach what only its host can reach."""

from __future__ import annotations

from contextvars import ContextVar
from urllib.parse import urlsplit

from isola.errors import Forbidden
from isola.model.outside import is_outside

_LIMITED: ContextVar[bool] = ContextVar("only_outside", default=False)


def limit_to_outside(limited: bool) -> None:
    """Whether this task, and those that it starts from now on, may connect to addresses outside of this host only."""
    _LIMITED.set(limited)


def is_limited() -> bool:
    """Whether the task is limited."""
    return _LIMITED.get()


def check_outside(url: str) -> None:
    """Raises Forbidden if the address itself names something inside; a name is looked at when it is resolved."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        raise not_outside(host)
    try:
        outside = is_outside(host)
    except ValueError:
        return
    if not outside:
        raise not_outside(host)


def not_outside(host: str) -> Forbidden:
    """The error for a server inside."""
    return Forbidden(
        f"The server {host[:260]} is reached by this host alone, and the caller is restricted to projects",
        field="url",
        remedy="use one outside, or let an administrator name the registry in images.registry.insecure or "
        "images.registry.mirrors",
    )
