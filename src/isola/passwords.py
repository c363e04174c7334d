"""Passwords as they are stored: hashed by scrypt with a salt. Pure; one takes a tenth of a second and 32 MiB."""

from __future__ import annotations

import hashlib
import hmac

_COST, _BLOCK, _PARALLEL, _LENGTH = 2**15, 8, 1, 32
_MEMORY = 64 * 2**20
_KIND = "scrypt"


def hashed(password: str, salt: str) -> str:
    """``scrypt$COST$SALT$HASH``. The salt is hexadecimal and used once."""
    return "$".join((_KIND, str(_COST), salt, _hash(password, salt, _COST).hex()))


def matches(stored: str, password: str) -> bool:
    """Whether this is the password, in a time that does not tell how much of it is right."""
    try:
        kind, cost, salt, wanted = stored.split("$")
        if kind != _KIND or not 0 < int(cost) <= _COST:
            return False
        return hmac.compare_digest(bytes.fromhex(wanted), _hash(password, salt, int(cost)))
    except ValueError:
        return False


def _hash(password: str, salt: str, cost: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=bytes.fromhex(salt),
        n=cost,
        r=_BLOCK,
        p=_PARALLEL,
        maxmem=_MEMORY,
        dklen=_LENGTH,
    )
