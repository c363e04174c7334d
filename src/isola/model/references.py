"""What uses a thing, said for people: names, where programs are given addresses of the API."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5
_NOUNS = {"instances": "instance", "profiles": "profile", "images": "image", "networks": "network"}


def users_text(paths: Sequence[str]) -> str:
    """``instance web1, profile default`` of ``/1.0/instances/web1`` and ``/1.0/profiles/default``."""
    shown = ", ".join(_named(path) for path in paths[:_SHOWN])
    return shown + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


def _named(path: str) -> str:
    *_, noun, name = ("", *path.split("/"))
    return f"{_NOUNS.get(noun, noun)} {name}".strip()
