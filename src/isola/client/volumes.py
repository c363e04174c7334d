"""Custom storage volumes and their snapshots. A volume is named ``(pool, volume)``."""

from __future__ import annotations

import posix

from isola.client.api import Api, cast, quote
from isola.client.http import FileBody
from isola.client.operations import Operation, begin
from isola.client.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.client.shapes import VolumeInfo, VolumeSnapshotInfo


class Volumes:
    """The custom volumes of all pools."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self, pool: str) -> list[VolumeInfo]:
        """All volumes of a pool: also root volumes of instances, and snapshots as ``volume/snapshot``."""
        return cast("list[VolumeInfo]", self._client.get(f"{_pool(pool)}/volumes", {"recursion": 1}))

    def read(self, pool: str, name: str) -> tuple[VolumeInfo, str]:
        """One volume and its ETag. Raises NotFound."""
        reply = self._client.call("GET", _path(pool, name))
        return cast("VolumeInfo", reply.metadata), reply.etag

    def usage(self, pool: str, name: str) -> dict[str, int]:
        """``{"used", "total"}`` in bytes; total is 0 if it has no limit."""
        state = cast("dict[str, dict[str, int]]", self._client.get(f"{_path(pool, name)}/state"))
        return state.get("usage") or {}

    def create(
        self, pool: str, name: str, config: Mapping[str, str], description: str = "", *, content: str = "filesystem"
    ) -> Operation:
        """Create an empty volume, of files or (``block``) with a disk."""
        body = {"name": name, "type": "custom", "config": dict(config), "description": description}
        if content != "filesystem":
            body["content_type"] = content
        return begin(self._client, "POST", f"{_pool(pool)}/volumes/custom", body)

    def upload(self, pool: str, name: str, path: str) -> Operation:
        """Make a volume of an ISO image."""
        headers = [("X-LXD-name", name), ("X-LXD-type", "iso"), ("Content-Type", "application/octet-stream")]
        with open(path, "rb") as file:
            body = FileBody(file.fileno(), posix.fstat(file.fileno()).st_size)
            response = self._client.exchange("POST", f"{_pool(pool)}/volumes/custom", body, headers=headers)
        try:
            return Operation.of_reply(self._client, Reply.read(response))
        finally:
            self._client.release(response)

    def copy(
        self, pool: str, name: str, target_pool: str, target: str, *, snapshot: str = "", snapshots: bool = True,
        refresh: bool = False,
    ) -> Operation:  # fmt: skip
        """Copy a volume or snapshot, also to another pool. With ``refresh`` an existing copy is updated."""
        source = {"type": "copy", "pool": pool, "name": f"{name}/{snapshot}" if snapshot else name}
        options = {"volume_only": not snapshots, "refresh": refresh}
        body = {"name": target, "type": "custom", "source": {**source, **options}}
        return begin(self._client, "POST", f"{_pool(target_pool)}/volumes/custom", body)

    def rename(self, pool: str, name: str, new: str) -> Operation:
        return begin(self._client, "POST", _path(pool, name), {"name": new})

    def move(self, pool: str, name: str, target_pool: str, target: str) -> Operation:
        """Move to another pool, under a new or the same name."""
        return begin(self._client, "POST", _path(pool, name), {"name": target, "pool": target_pool})

    def update(self, pool: str, name: str, whole: Mapping[str, object], *, etag: str = "") -> Operation:
        """Replace ``config`` and ``description``; with ``etag`` only if they are unchanged."""
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", _path(pool, name), dict(whole), headers=headers)

    def delete(self, pool: str, name: str) -> Operation:
        """Remove it with its snapshots. Raises InUse."""
        return begin(self._client, "DELETE", _path(pool, name))

    # --- snapshots ----------------------------------------------------------------------------------------------

    def snapshots(self, pool: str, name: str) -> list[VolumeSnapshotInfo]:
        """Oldest first. Names are without the volume (``data/snap0`` in the API), a missing expiry is the year 1."""
        found = cast("list[VolumeSnapshotInfo]", self._client.get(f"{_path(pool, name)}/snapshots", {"recursion": 1}))
        for each in found:
            each["name"] = each["name"].rpartition("/")[2]
            each["expires_at"] = each["expires_at"] or "0001-01-01T00:00:00Z"
        return found

    def read_snapshot(self, pool: str, name: str, snapshot: str) -> VolumeSnapshotInfo:
        """Raises NotFound."""
        return cast("VolumeSnapshotInfo", self._client.get(_path(pool, name, snapshot)))

    def snapshot(self, pool: str, name: str, snapshot: str = "", expires_at: str = "") -> Operation:
        """Take a snapshot; its default name follows ``snapshots.pattern`` of the volume."""
        body = {"name": snapshot} | ({"expires_at": expires_at} if expires_at else {})
        return begin(self._client, "POST", f"{_path(pool, name)}/snapshots", body)

    def rename_snapshot(self, pool: str, name: str, snapshot: str, new: str) -> Operation:
        return begin(self._client, "POST", _path(pool, name, snapshot), {"name": new})

    def restore(self, pool: str, name: str, snapshot: str) -> Operation:
        """Replace the volume's content by that of a snapshot."""
        shown, etag = self.read(pool, name)
        body = {"config": shown.get("config"), "description": shown.get("description"), "restore": snapshot}
        return begin(self._client, "PUT", _path(pool, name), body, headers=(("If-Match", etag),))

    def delete_snapshot(self, pool: str, name: str, snapshot: str) -> Operation:
        return begin(self._client, "DELETE", _path(pool, name, snapshot))


def _pool(pool: str) -> str:
    return f"/1.0/storage-pools/{quote(pool)}"


def _path(pool: str, name: str, snapshot: str = "") -> str:
    path = f"{_pool(pool)}/volumes/custom/{quote(name)}"
    return f"{path}/snapshots/{quote(snapshot)}" if snapshot else path
