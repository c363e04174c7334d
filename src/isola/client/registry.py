"""Repositories of the daemon's registry, and login tokens for its clients."""

from __future__ import annotations

from isola.client.api import cast, quote
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from isola.client.api import Api

_REPOSITORIES, _TOKENS = f"{ROOT}/isola/registry/repositories", f"{ROOT}/isola/registry/tokens"


class Registry:
    """The registry as its administrator sees it; images are pushed and pulled by other clients."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def repositories(self) -> list[dict[str, Any]]:
        """All repositories, sorted."""
        return cast("list[dict[str, Any]]", self._client.get(_REPOSITORIES, {"recursion": 1}))

    def repository(self, name: str) -> dict[str, Any]:
        """One repository with its manifests. Raises NotFound."""
        return cast("dict[str, Any]", self._client.get(f"{_REPOSITORIES}/{_path(name)}"))

    def delete(self, name: str, *, tag: str = "", digest: str = "") -> None:
        """Delete a repository, or a tag or manifest of it. Raises NotFound."""
        query = {"tag": tag} if tag else {"digest": digest} if digest else {}
        text = "&".join(f"{key}={quote(value)}" for key, value in query.items())
        self._client.call("DELETE", f"{_REPOSITORIES}/{_path(name)}" + (f"?{text}" if text else ""))

    def tokens(self) -> list[dict[str, Any]]:
        """All login tokens."""
        return cast("list[dict[str, Any]]", self._client.get(_TOKENS, {"recursion": 1}))

    def create_token(
        self, name: str, *, project: str = "", read_only: bool = False, expires: str = ""
    ) -> dict[str, Any]:
        """A new login token, with its secret."""
        body = {"name": name, "project": project, "read_only": read_only, "expires": expires}
        return cast("dict[str, Any]", self._client.call("POST", _TOKENS, body).metadata)

    def delete_token(self, name: str) -> None:
        """Raises NotFound."""
        self._client.call("DELETE", f"{_TOKENS}/{quote(name)}")


def _path(name: str) -> str:
    return "/".join(quote(part) for part in name.split("/"))
