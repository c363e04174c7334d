"""An OCI registry in memory, for ``FakeHttp``: pull, push, mount, tokens; its connections can break."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from isola.images.descriptor import CONFIG_TYPE, INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE
from isola.testing.http import Received, Reply

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags)/(?P<rest>.*)")
_RANGE = re.compile(r"bytes=(\d+)-")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class FakeRegistry:
    """A ``Server``. Blobs belong to repositories, as in registries that check access to each."""

    url: str
    users: dict[str, str] = field(default_factory=dict)
    """User -> password; empty: everything is allowed without authentication."""
    bearer: bool = True
    """Tokens, not basic authentication."""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    """By repository, and tag or digest."""
    uploads: dict[str, bytearray] = field(default_factory=dict)
    mounts: list[tuple[str, str]] = field(default_factory=list)
    """Sources and targets of mounts."""
    breaks: list[int] = field(default_factory=list)
    """Bytes after which the next responses with blobs break."""
    flipped: set[str] = field(default_factory=set)
    """Digests of blobs and manifests whose first byte is sent wrong."""
    tokens: set[str] = field(default_factory=set)
    resumes: bool = True

    def __call__(self, request: Received) -> Reply:
        """Answer one request."""
        path, query = urlsplit(request.url).path, parse_qs(urlsplit(request.url).query)
        if path == "/token":
            return self._token(request, query)
        return self._refused(request) or self._answer(request, path, query)

    def _answer(self, request: Received, path: str, query: Mapping[str, list[str]]) -> Reply:
        catalog = _json({"repositories": sorted({name for name, _ in self.manifests})})
        if path in ("/v2/", "/v2/_catalog"):
            return Reply(body=catalog if path.endswith("g") else b"")
        found = _PATH.fullmatch(path)
        if found is None:
            return _error(404, "NAME_UNKNOWN")
        name, rest = found["name"], found["rest"]
        if found["kind"] == "tags":
            return self._tags(name)
        if found["kind"] == "manifests":
            return self._manifest(request, name, rest)
        if rest.startswith("uploads/"):
            return self._upload(request, name, rest, query)
        return self._blob(request, name, rest)

    def add_image(
        self,
        name: str,
        tag: str,
        files: Mapping[str, bytes],
        *,
        architecture: str = "amd64",
        more: Sequence[Mapping[str, bytes]] = (),
        config: Mapping[str, object] | None = None,
        replaced: Mapping[str, object] | None = None,
    ) -> str:
        """An image with a layer of ``files`` and one for each of ``more``; returns the manifest's digest.

        ``replaced``: other values of fields of the manifest.
        """
        tars = [layer_tar(each) for each in (files, *more)]
        layers = [gzip.compress(each, mtime=0) for each in tars]
        described = {
            "created": "2024-01-02T03:04:05Z",
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["A=1"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in tars]},
            "history": [{"created_by": f"step {number}"} for number, _ in enumerate(tars)],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.add_blob(name, _json(described), CONFIG_TYPE),
            "layers": [self.add_blob(name, each, f"{LAYER_TYPE}+gzip") for each in layers],
            **(replaced or {}),
        }
        return self.add_manifest(name, tag, _json(manifest), MANIFEST_TYPE)

    def add_index(self, name: str, tag: str, images: Mapping[str, str]) -> str:
        """An index of images by platform (``linux/arm64``); returns its digest."""
        manifests = [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": digest,
                "size": len(self.manifests[name, digest][0]),
                "platform": dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)),
            }
            for platform, digest in images.items()
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
        return self.add_manifest(name, tag, _json(index), INDEX_TYPE)

    def add_blob(self, name: str, data: bytes, media_type: str) -> dict[str, object]:
        """Returns its descriptor."""
        digest = digest_of(data)
        self.blobs[name, digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_manifest(self, name: str, tag: str, data: bytes, media_type: str) -> str:
        """Returns its digest."""
        digest = digest_of(data)
        self.manifests[name, digest] = (data, media_type)
        if tag:
            self.manifests[name, tag] = (data, media_type)
        return digest

    # --- authentication -----------------------------------------------------------------------------------------

    def _refused(self, request: Received) -> Reply | None:
        sent = request.headers.get("authorization", "")
        if not self.users or self._knows(sent) or sent.removeprefix("Bearer ") in self.tokens:
            return None
        how = f'Bearer realm="{self.url}/token",service="fake"' if self.bearer else 'Basic realm="fake"'
        return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": how})

    def _knows(self, sent: str) -> bool:
        kind, _, text = sent.partition(" ")
        if kind != "Basic":
            return False
        user, _, password = base64.b64decode(text).decode().partition(":")
        return self.users.get(user) == password

    def _token(self, request: Received, query: Mapping[str, list[str]]) -> Reply:
        form = parse_qs(request.body.decode())
        allowed = self._knows(request.headers.get("authorization", "")) or form.get("refresh_token") == ["identity"]
        if not allowed:
            return _error(401, "UNAUTHORIZED")
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return Reply(body=_json({"token": token, "expires_in": 300, "scopes": query.get("scope", [])}))

    # --- reading ------------------------------------------------------------------------------------------------

    def _tags(self, name: str) -> Reply:
        tags = sorted(tag for of, tag in self.manifests if of == name and not tag.startswith("sha256:"))
        if not tags:
            return _error(404, "NAME_UNKNOWN")
        return Reply(body=_json({"name": name, "tags": tags}))

    def _manifest(self, request: Received, name: str, wanted: str) -> Reply:
        if request.method == "PUT":
            tag = "" if wanted.startswith("sha256:") else wanted
            missing = self._missing(name, request.body)
            if missing:
                return _error(400, "MANIFEST_BLOB_UNKNOWN")
            digest = self.add_manifest(name, tag, request.body, request.headers["content-type"])
            return Reply(201, headers={"Docker-Content-Digest": digest})
        if (name, wanted) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        data, kind = self.manifests[name, wanted]
        headers = {"Content-Type": kind, "Docker-Content-Digest": digest_of(data)}
        return Reply(body=self._maybe_flipped(data), headers=headers)

    def _missing(self, name: str, document: bytes) -> list[str]:
        fields = json.loads(document)
        needed = [each["digest"] for each in [*fields.get("layers", []), *filter(None, [fields.get("config")])]]
        return [digest for digest in needed if (name, digest) not in self.blobs]

    def _blob(self, request: Received, name: str, digest: str) -> Reply:
        if (name, digest) not in self.blobs:
            return _error(404, "BLOB_UNKNOWN")
        data = self._maybe_flipped(self.blobs[name, digest])
        if request.method == "HEAD":
            return Reply(headers={"Content-Length": str(len(data))})
        wanted = _RANGE.match(request.headers.get("range", ""))
        breaks = self.breaks.pop(0) if self.breaks else None
        if wanted is None or not self.resumes:
            return Reply(body=data, breaks_after=breaks)
        start = int(wanted[1])
        if start >= len(data):
            return Reply(416)
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return Reply(206, data[start:], headers, breaks)

    def _maybe_flipped(self, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if digest_of(data) in self.flipped else data

    # --- uploads ------------------------------------------------------------------------------------------------

    def _upload(self, request: Received, name: str, rest: str, query: Mapping[str, list[str]]) -> Reply:
        id = rest.removeprefix("uploads/")
        if request.method == "POST":
            return self._begin(name, query)
        if id not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        self.uploads[id] += request.body
        if request.method == "PUT" and request.complete:
            data, digest = bytes(self.uploads.pop(id)), query["digest"][0]
            if digest_of(data) != digest:
                return _error(400, "DIGEST_INVALID")
            self.blobs[name, digest] = data
            return Reply(201, headers={"Docker-Content-Digest": digest})
        return Reply(204 if request.method == "GET" else 202, headers=self._where(name, id))

    def _begin(self, name: str, query: Mapping[str, list[str]]) -> Reply:
        source, digest = query.get("from", [""])[0], query.get("mount", [""])[0]
        if (source, digest) in self.blobs:
            self.blobs[name, digest] = self.blobs[source, digest]
            self.mounts.append((source, name))
            return Reply(201, headers={"Docker-Content-Digest": digest})
        id = f"upload-{len(self.uploads)}"
        self.uploads[id] = bytearray()
        return Reply(202, headers=self._where(name, id))

    def _where(self, name: str, id: str) -> dict[str, str]:
        last = max(len(self.uploads[id]) - 1, 0)
        return {"Location": f"/v2/{name}/blobs/uploads/{id}?state=1", "Range": f"0-{last}"}


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Reply:
    body = _json({"errors": [{"code": code, "message": code.lower().replace("_", " "), "detail": None}]})
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})
