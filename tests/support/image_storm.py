"""Clients that push, pull, load, build, mount and delete images at the same time, with content that they share.

Each client owns its names, so that what was acknowledged must be found. The blobs behind the names belong to all of
them, so that the collection of garbage after a deletion meets the pushes, loads and builds of the others.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import random
import tarfile
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon import Connection
from debian_registry import PASSWORD, USER, DebianRegistry
from registry_client import RegistryClient
from registry_content import INDEX, MANIFEST, Content, digest_of, image, index
from registry_host import RegistryHost

POOL, ELSEWHERE = 5, 2
"""Contents that all clients share, and how many of them the other registry has."""
_MOST_NAMES = 4
_SECONDS = 120.0
_WEIGHTS = {"push": 5, "mount": 3, "load": 3, "build": 3, "pull": 3, "verify": 4, "delete": 8, "prune": 1}
_ANY = {"Accept": f"{INDEX}, {MANIFEST}"}


def pooled(number: int) -> Content:
    """One of the shared contents; every third one is an index."""
    if number % 3 == 2:
        return index(image(f"pool {number - 1}"), image(f"pool {number}", architecture="arm64"))
    return image(f"pool {number}")


def everything(content: Content) -> dict[str, bytes]:
    """All blobs of a content, its manifests not included."""
    return dict(content.blobs) | {d: b for each in content.manifests for d, b in everything(each).items()}


@dataclass
class ImageClient:
    """One client: its names, each with the digest that it was acknowledged with."""

    number: int
    registry: RegistryHost
    seed: int
    over: threading.Event
    names: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed * 1000 + self.number)
        self.repository = f"storm/c{self.number}"
        self.client = RegistryClient(self.registry)
        self.counter = 0

    def run(self) -> None:
        """Run until the end, or until something acknowledged is not found."""
        try:
            while not self.over.is_set():
                self.step()
        except Exception as error:
            self.wrong.append(f"client {self.number}, after {dict(self.done)}: {type(error).__name__}: {error}")
            self.over.set()

    def step(self) -> None:
        """One random verb."""
        verbs = [verb for verb in _WEIGHTS if self.names or verb not in ("verify", "delete")]
        if len(self.names) >= _MOST_NAMES:
            verbs = ["verify", "delete", "prune"]
        verb = self.random.choices(verbs, [_WEIGHTS[each] for each in verbs])[0]
        self.counter += 1
        getattr(self, f"do_{verb}")()
        self.done[verb] += 1

    # --- verbs ------------------------------------------------------------------------------------------------------

    def do_push(self) -> None:
        """What is there is not sent again, as docker and skopeo do it."""
        content, tag = pooled(self.random.randrange(POOL)), f"p{self.counter}"
        for each in (*content.manifests, content):
            for digest, data in each.blobs.items():
                if self.client.ask("HEAD", f"/v2/{self.repository}/blobs/{digest}").status != 200:
                    self.expect(201, self.client.push_blob(self.repository, digest, data))
            self.expect(201, self.client.put(self.repository, each, tag if each is content else ""))
        self.acknowledge(tag, content.digest)

    def do_mount(self) -> None:
        """The same with blobs of other clients, where there are any."""
        content, tag = image(f"pool {self.random.randrange(POOL)}"), f"m{self.counter}"
        for digest, data in content.blobs.items():
            answer = self.client.ask("POST", f"/v2/{self.repository}/blobs/uploads/?mount={digest}")
            if answer.status != 201:
                self.expect(202, answer)
                self.expect(201, self.client.ask("PUT", f"{answer.headers['Location']}?digest={digest}", data))
        self.expect(201, self.client.put(self.repository, content, tag))
        self.acknowledge(tag, content.digest)

    def do_load(self) -> None:
        """Load an archive of docker."""
        tag = f"l{self.counter}"
        content = image(f"pool {self.random.randrange(POOL)}")
        self.docker("POST", "/images/load", archive(content, f"{self.repository}:{tag}"))
        self.acknowledge(tag)

    def do_build(self) -> None:
        """Build on an image that all builds use, with files that builds of others have too."""
        tag, number = f"b{self.counter}", self.random.randrange(POOL)
        context = packed({"Dockerfile": b"FROM served\nCOPY text /text\nLABEL a=b\n", "text": b"%d" % number})
        self.docker("POST", f"/build?t={self.repository}:{tag}", context)
        self.acknowledge(tag)

    def do_pull(self) -> None:
        """Pull from another registry, and give it a name of this client."""
        tag, number = f"d{self.counter}", self.random.randrange(ELSEWHERE)
        login = json.dumps({"username": USER, "password": PASSWORD}).encode()
        there = f"{DebianRegistry.address}/c{self.number}/pool{number}"
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(login).decode()}
        self.docker("POST", f"/images/create?fromImage={there}&tag=1", headers=headers)
        self.docker("POST", f"/images/{there}:1/tag?repo={self.repository}&tag={tag}")
        self.docker("DELETE", f"/images/{there}:1")
        self.acknowledge(tag)

    def do_verify(self) -> None:
        """Pull one of its names whole."""
        tag = self.random.choice(sorted(self.names))
        self.check(tag)

    def do_delete(self) -> None:
        """Delete one of its names, by one interface or the other."""
        tag = self.random.choice(sorted(self.names))
        if self.random.random() < 0.5:
            self.expect(202, self.client.ask("DELETE", f"/v2/{self.repository}/manifests/{tag}"))
        else:
            self.docker("DELETE", f"/images/{self.repository}:{tag}")
        del self.names[tag]
        answer = self.client.ask("GET", f"/v2/{self.repository}/manifests/{tag}", headers=_ANY)
        assert answer.status == 404, f"{tag} was deleted, and is answered with {answer.status}"

    def do_prune(self) -> None:
        """Remove images without a name, and the cache of builds."""
        self.docker("POST", "/images/prune")
        self.docker("POST", "/build/prune?all=true")

    # --- what was acknowledged is there -----------------------------------------------------------------------------

    def acknowledge(self, tag: str, digest: str = "") -> None:
        """From now on this name has to be found, with this digest or the present one."""
        self.names[tag] = digest
        self.names[tag] = self.check(tag)

    def check(self, tag: str) -> str:
        """Pull a name with all that belongs to it, and compare the digests; returns that of its manifest."""
        expected = self.names[tag]
        answer = self.client.ask("GET", f"/v2/{self.repository}/manifests/{tag}", headers=_ANY)
        assert answer.status == 200, f"{tag} is answered with {answer.status} {answer.body[:200]!r}"
        digest = answer.headers["Docker-Content-Digest"]
        assert digest_of(answer.body) == digest and expected in ("", digest), f"{tag} was {expected}, and is {digest}"
        self.check_parts(tag, answer.json)
        return str(digest)

    def check_parts(self, tag: str, document: Mapping[str, Any]) -> None:
        """Pull what a document names."""
        for kind, parts in (("manifests", document.get("manifests", ())), ("blobs", blobs_of(document))):
            for each in parts:
                answer = self.client.ask("GET", f"/v2/{self.repository}/{kind}/{each['digest']}", headers=_ANY)
                seen = (answer.status, digest_of(answer.body))
                assert seen == (200, each["digest"]), f"{tag} lacks {each}: {answer.status} {answer.body[:200]!r}"
                if kind == "manifests":
                    self.check_parts(tag, answer.json)

    # --- requests ---------------------------------------------------------------------------------------------------

    def expect(self, status: int, answer: Any) -> None:
        """Fails with what was answered."""
        assert answer.status == status, f"{answer.status} instead of {status}: {answer.body[:500]!r}"

    def docker(self, method: str, path: str, data: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """A request to the interface of docker. Fails also with an error in its stream."""
        link: http.client.HTTPConnection = Connection(self.registry.daemon.directory / "docker.sock", _SECONDS)
        link.request(method, path, data, {"Content-Type": "application/x-tar", **(headers or {})})
        response = link.getresponse()
        text = response.read().decode()
        link.close()
        assert response.status < 300 and '"errorDetail"' not in text, f"{method} {path}: {response.status} {text[:500]}"


def blobs_of(document: Mapping[str, Any]) -> list[Any]:
    return [document["config"], *document["layers"]] if "config" in document else []


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def archive(content: Content, name: str) -> bytes:
    """A content with one layer as docker saves it."""
    config, layer = content.blobs.values()
    name_of_config = f"{digest_of(config)[7:]}.json"
    names = {"Config": name_of_config, "RepoTags": [name], "Layers": ["layer.tar"]}
    files = {"manifest.json": json.dumps([names]).encode(), name_of_config: config}
    return packed({**files, "layer.tar": gzip.decompress(layer)})
