"""Warnings: conditions that need an administrator's attention."""

from __future__ import annotations

from isola.client.api import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from isola.client.api import Api

_ROOT = "/1.0/warnings"


class Warnings:
    """A daemon's warnings, the latest first."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[dict[str, Any]]:
        """All that the caller may see, including resolved ones."""
        found: list[dict[str, Any]] = self._client.get(_ROOT, {"recursion": 1})  # type: ignore[assignment]
        return found

    def get(self, id: str) -> dict[str, Any]:
        """Raises NotFound."""
        found: dict[str, Any] = self._client.get(f"{_ROOT}/{quote(id)}")  # type: ignore[assignment]
        return found

    def mark(self, id: str, status: str) -> None:
        """``acknowledged``, or ``new`` again."""
        self._client.call("PUT", f"{_ROOT}/{quote(id)}", {"status": status})

    def delete(self, id: str) -> None:
        """Delete it; it is created again when the condition recurs."""
        self._client.call("DELETE", f"{_ROOT}/{quote(id)}")
