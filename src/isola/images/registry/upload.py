"""Uploading one blob: found there, mounted from another repository, or sent and resumed after breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from isola.errors import HostFailure, IsolaError
from isola.host import Host
from isola.host.http import FileBody, HttpResponse
from isola.images.descriptor import Descriptor
from isola.images.registry.failures import failure
from isola.images.registry.progress import LayerEvent, LayerState, Watch
from isola.images.registry.session import Session, pull_scope, push_scope
from isola.images.store import ContentStore

_CHUNK = 64 << 20
"""Most bytes of one request; proxies in front of registries often limit them."""
_ATTEMPTS = 5
"""Number of consecutive attempts without progress."""
_LONGEST_PAUSE = 30.0
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})", re.ASCII)
_BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Target:
    """A repository of a registry that blobs are sent to."""

    host: Host
    store: ContentStore
    session: Session
    path: str
    watch: Watch

    async def send(self, blob: Descriptor, sources: Sequence[str], progress: Callable[[int], None]) -> None:
        """``sources``: repositories of the same registry that may have it; ``progress``: called with the bytes sent.

        Raises the registry's error, and HostFailure if the connection breaks too often.
        """
        size = blob.size
        if await self._has(blob.digest):
            self.watch(LayerEvent(blob.digest, LayerState.PRESENT, size, size))
            return
        location, source = await self._begin(blob.digest, sources)
        if not location:
            self.watch(LayerEvent(blob.digest, LayerState.MOUNTED, size, size, source))
            return
        await _Upload(self, blob, location, progress).run()
        self.watch(LayerEvent(blob.digest, LayerState.COMPLETE, size, size))

    async def _has(self, digest: str) -> bool:
        async with self.session.request("HEAD", f"{self.path}/blobs/{digest}", self.scope) as response:
            if response.status in (200, 404):
                return response.status == 200
            raise await failure(response, f"blob {digest[7:19]} of {self.path}")

    async def _begin(self, digest: str, sources: Sequence[str]) -> tuple[str, str]:
        """Where to send it and nothing, or nothing and the repository that it was mounted from."""
        for source in sources:
            query = urlencode({"mount": digest, "from": source})
            scope = f"{self.scope} {pull_scope(source)}"
            async with self.session.request("POST", f"{self.path}/blobs/uploads/?{query}", scope) as response:
                if response.status == 201:
                    return "", source
                if response.status == 202:
                    return _location(response), ""
        async with self.session.request("POST", f"{self.path}/blobs/uploads/", self.scope) as response:
            if response.status != 202:
                raise await failure(response, f"an upload to {self.path}")
            return _location(response), ""

    async def begin_again(self, digest: str) -> str:
        """A new upload; empty if the registry has the blob by now."""
        return "" if await self._has(digest) else (await self._begin(digest, ()))[0]

    @property
    def scope(self) -> str:
        """The rights that uploads need."""
        return push_scope(self.path)


class _Upload:
    def __init__(self, target: Target, blob: Descriptor, location: str, progress: Callable[[int], None]) -> None:
        self._target = target
        self._blob = blob
        self._location = location
        self._progress = progress
        self._at = 0
        self._reported = 0

    async def run(self) -> None:
        """Until the registry has confirmed the digest."""
        failures = 0
        while self._location:
            before = self._at
            try:
                await self._rest()
                return
            except HostFailure:
                failures += 1
                if failures >= _ATTEMPTS:
                    raise
            await self._target.host.clock.sleep(min(2.0**failures, _LONGEST_PAUSE))
            await self._look(before)
            failures = 0 if self._at > before else failures

    async def _rest(self) -> None:
        while self._blob.size - self._at > _CHUNK:
            await self._send("PATCH", self._location, _CHUNK, 202)
        joint = "&" if "?" in self._location else "?"
        final = f"{self._location}{joint}{urlencode({'digest': self._blob.digest})}"
        await self._send("PUT", final, self._blob.size - self._at, 201)

    async def _send(self, method: str, url: str, size: int, expected: int) -> None:
        start = self._at
        body = FileBody(self._target.store.path(self._blob.digest), start, size, self._sent)
        headers = {**_BYTES, **({"Content-Range": f"{start}-{start + size - 1}"} if size else {})}
        async with self._target.session.request(
            method, url, self._target.scope, headers=headers, body=body if size else b""
        ) as response:
            if response.status != expected:
                raise await failure(response, f"blob {self._blob.digest[7:19]} of {self._target.path}")
            if expected == 202:
                self._location = _location(response)
        self._at = start + size

    def _sent(self, size: int) -> None:
        self._at += size
        if self._at > self._reported:
            self._progress(self._at - self._reported)
            self._reported = self._at
            self._target.watch(LayerEvent(self._blob.digest, LayerState.MOVING, self._at, self._blob.size))

    async def _look(self, before: int) -> None:
        """Ask how much has arrived, and begin again if the registry does not know the upload any more."""
        try:
            async with self._target.session.request("GET", self._location, self._target.scope) as response:
                found = _RANGE.fullmatch(response.headers.get("range", ""))
                if response.status == 204 and found is not None:
                    # "0-0" is what most registries send for an empty upload, and what is right for a single byte.
                    arrived = int(found[1]) + 1 if int(found[1]) else 0
                    self._at = min(arrived, self._blob.size)
                    self._location = _location(response, self._location)
                    return
            self._at = 0
            self._location = await self._target.begin_again(self._blob.digest)
        except IsolaError:
            self._at = before


def _location(response: HttpResponse, otherwise: str = "") -> str:
    found = response.headers.get("location", "") or otherwise
    if not found:
        raise HostFailure("The registry did not say where to send a blob")
    return urljoin(response.url, found)
