"""The server's own key and certificate: generated once and stored in the daemon's directory."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from isola.errors import InvalidInput
from isola.host import Host

if TYPE_CHECKING:
    from isola.x509 import KeyPair

_CERTIFICATE, _KEY = "server.crt", "server.key"
_DNS = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*", re.ASCII
)


class Identity:
    """The server's identity. ``pair`` and ``fingerprint`` are empty until they are first needed."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._turn = asyncio.Lock()
        self.pair: KeyPair | None = None
        self.fingerprint = ""
        self.addresses: tuple[str, ...] = ()
        """Its network addresses with port; set by the door that listens on them."""

    async def changed(self) -> KeyPair | None:
        """What is in its files now; None if that is in use, or nothing is. Raises HostFailure, InvalidInput."""
        async with self._turn:
            found = await self._read() if self.pair is not None else None
        return None if found == self.pair else found

    def use(self, pair: KeyPair) -> None:
        """Be the server with this key and certificate from now on. Raises InvalidInput."""
        from isola.x509 import parse  # a daemon without a network port needs no cryptography

        self.fingerprint = parse(pair.certificate, _CERTIFICATE).fingerprint
        self.pair = pair

    async def ensure(self) -> KeyPair:
        """Key and certificate, generated if they do not exist. Raises HostFailure, and InvalidInput for damaged
        files.
        """
        async with self._turn:
            if self.pair is None:
                self.use(await self._read() or await self._make())
            assert self.pair is not None
            return self.pair

    async def _read(self) -> KeyPair | None:
        from isola.x509 import KeyPair

        files = self._host.files
        certificate, key = self._directory / _CERTIFICATE, self._directory / _KEY
        if not (await files.exists(certificate) and await files.exists(key)):
            return None
        try:
            return KeyPair((await files.read(certificate)).decode(), (await files.read(key)).decode())
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{certificate} or {key} is not in PEM format", evidence=str(error)) from error

    async def _make(self) -> KeyPair:
        from isola.x509 import make

        name = self._host.system.kernel().hostname
        hosts = [name if _DNS.fullmatch(name) else "isola", "127.0.0.1", "::1"]
        now = self._host.clock.now()
        pair = await asyncio.to_thread(make, f"root@{name}", now, server=True, hosts=hosts)
        # The key first: if only one of the files exists, both are generated again, so that they always match.
        await self._host.files.write(self._directory / _KEY, pair.key.encode(), mode=0o600)
        await self._host.files.write(self._directory / _CERTIFICATE, pair.certificate.encode(), mode=0o644)
        return pair
