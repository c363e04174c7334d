"""Images and aliases."""

from __future__ import annotations

import posix

from isola.client.api import Api, cast, quote
from isola.client.http import FileBody, Response
from isola.client.operations import Operation, begin
from isola.client.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from isola.client.shapes import AliasInfo, ImageInfo

_ROOT = "/1.0/images"
_PIECE = 262144


class Images:
    """The daemon's images."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[ImageInfo]:
        return cast("list[ImageInfo]", self._client.get(_ROOT, {"recursion": 1}))

    def get(self, reference: str) -> ImageInfo:
        """An image by alias or fingerprint (prefix). Raises NotFound."""
        return cast("ImageInfo", self._client.get(f"{_ROOT}/{quote(self.fingerprint(reference))}"))

    def fingerprint(self, reference: str) -> str:
        """The fingerprint that an alias refers to; other texts, such as prefixes of one, are returned unchanged."""
        from isola.errors import NotFound

        try:
            return self.alias(reference)["target"]
        except NotFound:
            return reference

    def build(self, name: str, *, options: Mapping[str, str] | None = None, alias: str = "") -> Operation:
        """Have an image source build or fetch its image ``name`` (``debian/12``)."""
        source: dict[str, object] = {"type": "image", "protocol": "build", "alias": name}
        if options:
            source["options"] = dict(options)
        body: dict[str, object] = {"source": source, "aliases": [{"name": alias or name, "description": ""}]}
        return begin(self._client, "POST", _ROOT, body)

    def publish(
        self,
        instance: str,
        *,
        aliases: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        public: bool = False,
        **source: object,
    ) -> Operation:
        """Make an image of an instance, or of ``INSTANCE/SNAPSHOT``.

        ``source``: ``changes`` (Dockerfile instructions), ``author``, ``message``, ``pause``.
        """
        kind = "snapshot" if "/" in instance else "instance"
        body: dict[str, object] = {
            "source": {"type": kind, "name": instance, **source},
            "aliases": [{"name": alias, "description": ""} for alias in aliases],
            "properties": dict(properties or {}),
            "public": public,
        }
        return begin(self._client, "POST", _ROOT, body)

    def pull(
        self,
        name: str,
        *,
        credentials: Mapping[str, str] | None = None,
        platform: str = "",
        aliases: Sequence[str] = (),
    ) -> Operation:
        """Pull an image of a registry (``docker.io/library/x:1``)."""
        source: dict[str, object] = {"type": "image", "mode": "pull", "protocol": "oci", "alias": name}
        if credentials:
            source["credentials"] = dict(credentials)
        if platform:
            source["options"] = {"platform": platform}
        body: dict[str, object] = {"source": source, "aliases": [{"name": alias} for alias in aliases]}
        return begin(self._client, "POST", _ROOT, body)

    def push(self, reference: str, name: str, *, credentials: Mapping[str, str] | None = None) -> Operation:
        """Push an image under the name ``name`` of a registry."""
        body = {"reference": name, "credentials": dict(credentials or {})}
        return begin(self._client, "POST", f"{_ROOT}/{quote(self.fingerprint(reference))}/push", body)

    def upload(self, files: Sequence[str], *, properties: Mapping[str, str] | None = None) -> Operation:
        """Import a unified tarball, metadata and root file system, or an archive of OCI images or ``docker save``.

        A directory is one of OCI's layout.
        """
        headers = [("X-LXD-filename", quote(files[-1].rstrip("/").rpartition("/")[2]))]
        if properties:
            text = "&".join(f"{quote(key)}={quote(value)}" for key, value in properties.items())
            headers.append(("X-LXD-properties", text))
        response = self._upload_one(files[0], headers) if len(files) == 1 else self._upload_two(files, headers)
        try:
            return Operation.of_reply(self._client, Reply.read(response))
        finally:
            self._client.release(response)

    def _upload_one(self, path: str, headers: list[tuple[str, str]]) -> Response:
        from isola.client.layout import is_layout, pieces_of

        if is_layout(path):
            kind = ("Content-Type", "application/octet-stream")
            return self._client.exchange("POST", _ROOT, pieces_of(path), headers=[*headers, kind])
        with open(path, "rb") as file:
            body = FileBody(file.fileno(), posix.fstat(file.fileno()).st_size)
            return self._client.exchange(
                "POST", _ROOT, body, headers=[*headers, ("Content-Type", "application/octet-stream")]
            )

    def _upload_two(self, paths: Sequence[str], headers: list[tuple[str, str]]) -> Response:
        boundary = "isola" + posix.urandom(16).hex()
        kind = f"multipart/form-data; boundary={boundary}"
        with open(paths[0], "rb") as metadata, open(paths[1], "rb") as rootfs:
            body = _multipart(boundary, {"metadata": metadata, "rootfs": rootfs})
            return self._client.exchange("POST", _ROOT, body, headers=[*headers, ("Content-Type", kind)])

    def export(self, reference: str, *, oci: bool = False) -> Response:
        """The image as one file or as multipart; the caller reads and releases the response.

        ``oci``: as an archive that docker, podman and skopeo can load.
        """
        query = "?format=oci" if oci else ""
        response = self._client.exchange("GET", f"{_ROOT}/{quote(self.fingerprint(reference))}/export{query}")
        if response.status >= 400:
            Reply.read(response)
        return response

    def read(self, reference: str) -> tuple[ImageInfo, str]:
        """An image and its ETag."""
        reply = self._client.call("GET", f"{_ROOT}/{quote(self.fingerprint(reference))}")
        return cast("ImageInfo", reply.metadata), reply.etag

    def update(self, fingerprint: str, image: Mapping[str, object], *, etag: str = "") -> None:
        """Replace properties, ``public``, ``auto_update`` and ``expires_at``."""
        headers = (("If-Match", etag),) if etag else ()
        self._client.call("PUT", f"{_ROOT}/{quote(fingerprint)}", dict(image), headers=headers)

    def delete(self, reference: str) -> Operation:
        """Delete it with its aliases; instances created from it keep their files."""
        return begin(self._client, "DELETE", f"{_ROOT}/{quote(self.fingerprint(reference))}")

    # --- aliases ------------------------------------------------------------------------------------------------

    def aliases(self) -> list[AliasInfo]:
        return cast("list[AliasInfo]", self._client.get(f"{_ROOT}/aliases", {"recursion": 1}))

    def alias(self, name: str) -> AliasInfo:
        """One alias. Raises NotFound."""
        return cast("AliasInfo", self._client.get(f"{_ROOT}/aliases/{quote(name)}"))

    def add_alias(self, name: str, fingerprint: str, description: str = "") -> None:
        body = {"name": name, "target": fingerprint, "description": description}
        self._client.call("POST", f"{_ROOT}/aliases", body)

    def point_alias(self, name: str, fingerprint: str) -> None:
        """Point an alias, new or existing, to an image."""
        from isola.errors import NotFound

        try:
            self._client.call("PATCH", f"{_ROOT}/aliases/{quote(name)}", {"target": fingerprint})
        except NotFound:
            self.add_alias(name, fingerprint)

    def rename_alias(self, name: str, new: str) -> None:
        self._client.call("POST", f"{_ROOT}/aliases/{quote(name)}", {"name": new})

    def delete_alias(self, name: str) -> None:
        """Delete an alias; the image stays."""
        self._client.call("DELETE", f"{_ROOT}/aliases/{quote(name)}")


def _multipart(boundary: str, files: Mapping[str, BinaryIO]) -> Iterator[bytes]:
    for field, file in files.items():
        name = quote(file.name.rpartition("/")[2])
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        while piece := file.read(_PIECE):
            yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
