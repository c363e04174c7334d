"""A client of a real daemon's registry over TLS: one connection, opened in the daemon's network namespace."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import netns
from registry_content import Content
from registry_host import ADDRESS, RegistryHost

HERE = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """A response with its whole body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of its only error; empty without one, or without a body."""
        if self.status < 400 or not self.body:
            return ""
        assert self.headers["Content-Type"].startswith("application/json"), self
        [error] = self.json["errors"]
        assert isinstance(error["message"], str) and error["message"]
        return str(error["code"])


class RegistryClient:
    """Sends one request after the other. ``source`` is the loopback address that it comes from."""

    def __init__(self, registry: RegistryHost, login: str | None = None, *, source: str = HERE) -> None:
        """``login`` is NAME:SECRET, by default that of the registry's token; empty for none."""
        login = f"ci:{registry.secret}" if login is None else login
        self.headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        self._registry = registry
        self._source = source
        self._link: http.client.HTTPSConnection | None = None

    def ask(
        self,
        method: str,
        path: str,
        data: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Status, headers and body."""
        link = self._connected()
        streamed = data is not None and not isinstance(data, bytes)
        link.request(method, path, data, {**self.headers, **(headers or {})}, encode_chunked=streamed)
        response = link.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        if response.will_close:
            self.close()
        return answer

    def _connected(self) -> http.client.HTTPSConnection:
        if self._link is None:
            host, _, port = ADDRESS.partition(":")
            context = ssl.create_default_context(cafile=str(self._registry.certificates / "ca.crt"))
            context.check_hostname = False
            link = http.client.HTTPSConnection(
                host, int(port), context=context, timeout=60, source_address=(self._source, 0)
            )
            with netns.inside(self._registry.daemon.netns):
                link.connect()
            self._link = link
        return self._link

    def close(self) -> None:
        """End the connection; the next request opens another."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def begin(self, repository: str) -> str:
        """The path of a new upload."""
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status == 202, answer
        return answer.headers["Location"]

    def push_blob(self, repository: str, digest: str, data: bytes) -> Answer:
        """In one request."""
        return self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)

    def put(self, repository: str, content: Content, reference: str = "", query: str = "") -> Answer:
        """A manifest alone, by default under its digest."""
        path = f"/v2/{repository}/manifests/{reference or content.digest}{query}"
        return self.ask("PUT", path, content.data, {"Content-Type": content.media_type})

    def push(self, repository: str, content: Content, reference: str = "") -> Answer:
        """A manifest with everything that it needs."""
        for digest, data in content.blobs.items():
            answer = self.push_blob(repository, digest, data)
            assert answer.status == 201, answer
        for each in content.manifests:
            answer = self.push(repository, each)
            assert answer.status == 201, answer
        return self.put(repository, content, reference)
