"""A client of the API over TLS, with or without a certificate."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from isola.x509 import KeyPair, make, parse

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of the clock of a daemon in memory."""


def pair(name: str = "client", now: datetime = START) -> KeyPair:
    """A client's key and certificate."""
    return make(name, now, server=False)


def client_context(shown: KeyPair | None) -> ssl.SSLContext:
    """A context that accepts any server, and presents the certificate if requested."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if shown is not None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(shown.certificate + shown.key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Peer:
    """One client. ``ask`` gives status and decoded body."""

    def __init__(self, session: aiohttp.ClientSession, url: str, shown: KeyPair | None) -> None:
        self.session = session
        self.url = url
        self.shown = shown
        self.fingerprint = parse(shown.certificate).fingerprint if shown is not None else ""

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        more: dict[str, Any] = {} if body is None else {"json": body}
        async with self.session.request(method, self.url + path, **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body["metadata"]


@asynccontextmanager
async def peer(port: int, shown: KeyPair | None, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    """A client that connects with its first request."""
    connector = aiohttp.TCPConnector(ssl=client_context(shown))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Peer(session, f"https://{host}:{port}", shown)


def token_of(operation: dict[str, Any]) -> str:
    """The encoded token, from the metadata of its operation."""
    metadata = operation["metadata"]
    packed = {
        "client_name": metadata["request"]["name"],
        "fingerprint": metadata["fingerprint"],
        "addresses": metadata["addresses"],
        "secret": metadata["secret"],
    }
    return base64.b64encode(json.dumps(packed).encode()).decode()


def der_of(shown: KeyPair) -> str:
    """The certificate in the API's format: base64 of DER."""
    return base64.b64encode(ssl.PEM_cert_to_DER_cert(shown.certificate)).decode()
