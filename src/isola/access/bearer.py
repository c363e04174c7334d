"""Bearer tokens of the registry: who has logged in, and what for, signed by the daemon. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.model.caller import Caller

_LONGEST = 16 << 10
PULL, PUSH, DELETE = "pull", "push", "delete"
ACTIONS = (PULL, PUSH, DELETE)


@dataclass(frozen=True, slots=True)
class Bearer:
    """The content of a token."""

    subject: str
    """Who has logged in; empty for an untrusted client."""
    expires_at: float
    """Seconds since 1970."""
    access: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Actions by the path of a repository."""
    lists: bool = False
    """Whether it was given for the list of all repositories."""

    def allows(self, path: str, action: str) -> bool:
        """Whether it was given for this."""
        return action in self.access.get(path, ())


def sealed(bearer: Bearer, key: bytes) -> str:
    """The text of a token."""
    access = {path: list(actions) for path, actions in bearer.access.items()}
    data = json.dumps([bearer.subject, bearer.expires_at, access, bearer.lists], separators=(",", ":")).encode()
    return f"{_text(data)}.{_text(_signature(data, key))}"


def opened(text: str, key: bytes, now: float) -> Bearer | None:
    """The content; None if it was not sealed with this key, or has expired."""
    if len(text) > _LONGEST or not text.isascii():
        return None
    data, _, signature = text.partition(".")
    try:
        content, proof = _bytes(data), _bytes(signature)
    except (ValueError, binascii.Error):
        return None
    if not hmac.compare_digest(proof, _signature(content, key)):
        return None
    subject, expires_at, access, lists = json.loads(content)
    if expires_at <= now:
        return None
    return Bearer(subject, expires_at, {path: tuple(actions) for path, actions in access.items()}, lists)


def permitted(caller: Caller, project: str) -> tuple[str, ...]:
    """The actions that a trusted caller may do in the repositories of a project."""
    if not caller.may_use(project):
        return ()
    return (PULL,) if caller.read_only else ACTIONS


def _signature(data: bytes, key: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
