"""Client certificates that the daemon trusts."""

from __future__ import annotations

from isola.client.nouns import Nouns
from isola.client.operations import Operations, begin
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Certificates(Nouns["dict[str, Any]"]):
    """The daemon's trust store, by prefixes of fingerprints, and tokens with which clients add their certificates."""

    root = f"{ROOT}/certificates"

    def add(self, certificate: str, about: Mapping[str, object]) -> None:
        """Trust a certificate (base64 of DER)."""
        self._client.call("POST", self.root, {"type": "client", **about, "certificate": certificate})

    def remove(self, fingerprint: str) -> None:
        self.delete(fingerprint)

    def create_token(self, about: Mapping[str, object]) -> str:
        """Create a token with which one client adds its certificate."""
        begun = begin(self._client, "POST", self.root, {"type": "client", **about, "token": True}, ends=False)
        return token_text(begun.metadata)

    def tokens(self) -> list[tuple[str, dict[str, Any]]]:
        """Ids and metadata of the operations that represent unused tokens."""
        found = []
        for info in Operations(self._client).all():
            metadata = info.get("metadata") or {}
            waits = info.get("class") == "token" and info.get("status") == "Running"
            if waits and "request" in metadata and "fingerprint" in metadata:
                found.append((str(info["id"]), dict(metadata)))
        return found

    def add_own(self, token: str) -> None:
        """Add this client's TLS certificate by a token; LXD 5.0 expects it in ``password``."""
        self._client.call("POST", self.root, {"type": "client", "trust_token": token, "password": token})


def token_text(metadata: Mapping[str, Any]) -> str:
    """The encoded token, from the metadata of its operation."""
    import base64

    from isola.client import json

    packed = {
        "client_name": metadata["request"]["name"],
        "fingerprint": metadata["fingerprint"],
        "addresses": metadata["addresses"],
        "secret": metadata["secret"],
        "expires_at": metadata.get("expiresAt") or "0001-01-01T00:00:00Z",
    }
    return base64.b64encode(json.encode(packed).encode()).decode()


def read_token(text: str) -> dict[str, Any] | None:
    """The content of a token; None if the text is not a token."""
    import base64

    from isola.client import json

    try:
        found = json.decode(base64.b64decode(text, validate=True))
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    usable = isinstance(found.get("addresses"), list) and all(
        isinstance(found.get(key), str) for key in ("secret", "fingerprint")
    )
    return found if usable else None
