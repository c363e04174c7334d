"""Results of builds as contexts of others on the same connection: targets of ``docker buildx bake``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from isola.builds.named_contexts import IMAGE
from isola.doors.docker.buildkit.calls import Code, Failure
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import NotFound, Unsupported
from isola.model.image import Image
from isola.model.reference import Kind, Ref

_SCHEME, _INPUT, _CONTEXT = "isola://", "input:", "context:"


def definition_of(ref: str) -> bytes:
    """``pb.Definition`` that stands for the result of a build. Clients hand it on, and do not look into it."""
    source = message({3: message({1: f"{_SCHEME}{ref}"})})
    digest = _digest(source)
    last = message({1: message({1: digest})})
    return message({1: [source, last], 2: {digest: b"", _digest(last): b""}})


def builds_in(attributes: Mapping[str, str], inputs: Mapping[str, Message]) -> Mapping[str, str]:
    """Refs of builds by the options whose contexts they are. Raises Unsupported for other definitions, Failure."""
    found = {}
    for name, value in attributes.items():
        if name.startswith(_CONTEXT) and value.startswith(_INPUT):
            if (given := inputs.get(value.removeprefix(_INPUT))) is None:
                raise Failure(Code.INVALID, f"there is no input for {name[:80]}")
            found[name] = _ref_in(given)
    return found


def as_context(fingerprint: str) -> str:
    """The value of such an option that names the image."""
    return f"{IMAGE}sha256:{fingerprint}"


class Temporary:
    """Images that are recorded only because other builds begin with them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._made: dict[str, Image] = {}

    def note(self, fingerprint: str, since: datetime) -> None:
        """One that was recorded after that moment."""
        home = self._client.services.projects.home(self._client.project, Kind.IMAGE)
        image = self._client.services.images.get(Ref(home, fingerprint))
        if image.uploaded_at >= since:
            self._made[fingerprint] = image

    async def drop(self) -> None:
        """Those without a name."""
        while self._made:
            _, image = self._made.popitem()
            try:
                await self._client.services.images.drop(image, caller=self._client.caller)
            except NotFound:  # removed meanwhile
                continue


def _ref_in(definition: Message) -> str:
    for data in definition.blobs(1):
        identifier = Message(data).inside(3).text(1)
        if identifier.startswith(_SCHEME):
            return identifier.removeprefix(_SCHEME)
    raise Unsupported("Low-level build definitions (LLB) are not offered: Dockerfiles are built", field="definition")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
