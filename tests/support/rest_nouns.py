"""Profiles, networks, pools and images that live in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rest_times import START

from isola.errors import AlreadyExists, Forbidden, InUse, InvalidInput, NotFound
from isola.model.image import Alias, Image, ImageConfig, Layer
from isola.model.names import plain_name
from isola.model.network import Lease, Network
from isola.model.probe import Probe
from isola.model.profile import Profile
from isola.model.storage import Pool, Space
from isola.operations import Operation, Operations


class StandProfiles:
    def __init__(self) -> None:
        self.records = {
            "default": Profile("default", "", {}, {"root": {"type": "disk", "path": "/", "pool": "default"}})
        }
        self.revisions = {"default": 1}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def get(self, name: str) -> Profile:
        if name not in self.records:
            raise NotFound(f"Profile {name!r} not found")
        return self.records[name]

    def revision(self, name: str) -> int:
        return self.revisions.get(name, 0)

    def used_by(self, name: str) -> Sequence[str]:
        return ()

    def _put(self, profile: Profile) -> None:
        self.records[profile.name] = profile
        self.revisions[profile.name] = self.revision(profile.name) + 1

    async def create(self, profile: Profile) -> None:
        plain_name(profile.name)
        if profile.name in self.records:
            raise AlreadyExists(f"Profile {profile.name!r} already exists")
        self._put(profile)

    async def update(self, name: str, decide: Any) -> None:
        self._put(decide(self.get(name)))

    async def rename(self, old: str, new: str) -> None:
        if old == "default":
            raise Forbidden("The profile 'default' cannot be renamed")
        plain_name(new)
        self._put(dataclasses.replace(self.records.pop(old), name=new))

    async def delete(self, name: str) -> None:
        if name == "default":
            raise Forbidden("The profile 'default' cannot be deleted")
        del self.records[self.get(name).name]


class StandNetworks:
    def __init__(self) -> None:
        self.probes = {"bridge": Probe(True, "1")}
        self.links: dict[str, str] = {}
        """More links of the host."""
        config = {"ipv4.address": "10.1.2.1/24", "volatile.bridge.hwaddr": "0a:69:73:00:00:01"}
        self.records = {"isolabr0": Network("isolabr0", config=config)}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def get(self, name: str) -> Network:
        if name not in self.records:
            raise NotFound(f"Network {name!r} not found")
        return self.records[name]

    def used_by(self, name: str) -> Sequence[str]:
        return ["/1.0/profiles/default"] if name == "isolabr0" else []

    async def create(self, op: Operation, network: Network) -> Network:
        if network.name in self.records:
            raise AlreadyExists(f"Network {network.name!r} already exists")
        self.records[network.name] = network
        return network

    async def update(self, op: Operation, name: str, decide: Any) -> None:
        self.records[name] = decide(self.get(name))

    async def rename(self, op: Operation, old: str, new: str) -> None:
        self.records[new] = dataclasses.replace(self.records.pop(old), name=new)

    async def delete(self, op: Operation, name: str) -> None:
        if self.used_by(name):
            raise InUse(f"Network {name!r} is in use", evidence=", ".join(self.used_by(name)))
        del self.records[name]

    async def leases(self, name: str) -> Sequence[Lease]:
        return [Lease("web1", "10:66:6a:00:00:01", "10.1.2.3", "static")]

    async def state(self, name: str) -> Mapping[str, object]:
        self.get(name)
        return {"addresses": [], "counters": {}, "hwaddr": "", "mtu": 1500, "state": "up", "type": "broadcast"}

    async def unmanaged(self) -> Mapping[str, str]:
        return {"lo": "loopback", "eth0": "physical"} | self.links

    async def unknown(self) -> Mapping[str, Network | None]:
        return {"lost": None}

    async def remove_unknown(self, op: Operation, name: str) -> None:
        if name not in await self.unknown():
            raise NotFound(f"There is no network {name!r} without a record")


class StandPools:
    def __init__(self) -> None:
        self.probes = {"overlay": Probe(True, "6.1"), "btrfs": Probe(False, reason="no btrfs", remedy="install it")}
        self.records = {"default": Pool("default")}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def get(self, name: str) -> Pool:
        if name not in self.records:
            raise NotFound(f"Storage pool {name!r} not found")
        return self.records[name]

    def used_by(self, name: str) -> Sequence[str]:
        return []

    async def create(self, op: Operation, pool: Pool) -> None:
        if pool.driver not in self.probes:
            raise InvalidInput(f"There is no storage driver {pool.driver[:20]!r}", field="driver")
        if pool.name in self.records:
            raise AlreadyExists(f"Storage pool {pool.name!r} already exists")
        self.records[pool.name] = pool

    async def update(self, name: str, decide: Any) -> None:
        self.records[name] = decide(self.get(name))

    async def delete(self, op: Operation, name: str) -> None:
        del self.records[name]

    async def space(self, name: str) -> Space:
        return Space(100, 40, 10, 4)

    async def unknown(self) -> Mapping[str, Pool | None]:
        return {"old": Pool("old")}

    async def adopt(self, op: Operation, name: str) -> None:
        if name not in await self.unknown():
            raise NotFound(f"There is no storage pool {name!r} without a record")
        self.records[name] = Pool(name)


class StandImages:
    """Keeps uploads as they are: the fingerprint is the hash of the bytes."""

    def __init__(self, directory: Path, operations: Operations) -> None:
        self.operations = operations
        self.store = SimpleNamespace(scratch=directory / "scratch")
        self.probes = {"debian": Probe(True, "1"), "file": Probe(True, "1")}
        self.directory = directory
        self.records: dict[str, Image] = {}
        self.names: dict[str, Alias] = {}
        self.kept: dict[str, list[tuple[str, Path]]] = {}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def offers(self) -> Mapping[str, str]:
        return {"debian/12": "Debian 12"}

    async def unknown(self) -> Mapping[str, int]:
        return {"sha256:1": 10, "sha256:2": 5}

    @property
    def sources(self) -> Any:
        return SimpleNamespace(offering=lambda name: ("debian", name) if name in self.offers() else None)

    def get(self, fingerprint: str) -> Image:
        found = [image for key, image in self.records.items() if len(fingerprint) >= 4 and key.startswith(fingerprint)]
        if len(found) != 1:
            raise NotFound(f"Image {fingerprint[:80]!r} not found")
        return found[0]

    def _add(self, data: Sequence[bytes], filename: str, properties: Mapping[str, str], public: bool) -> Image:
        fingerprint = hashlib.sha256(b"".join(data)).hexdigest()
        if fingerprint in self.records:
            raise AlreadyExists(f"Image {fingerprint[:12]} already exists")
        names = ["image.tar.gz"] if len(data) == 1 else ["meta.tar.gz", "rootfs.tar.gz"]
        self.kept[fingerprint] = []
        for name, blob in zip(names, data, strict=True):
            path = self.directory / f"{fingerprint}.{name}"
            path.write_bytes(blob)
            self.kept[fingerprint].append((name, path))
        self.records[fingerprint] = Image(
            fingerprint,
            "sha256:" + "0" * 64,
            sum(map(len, data)),
            "x86_64",
            START,
            START,
            (Layer("sha256:" + "1" * 64, "tar", 1),),
            ImageConfig(system=True),
            properties=properties,
            public=public,
            filename=filename,
        )
        return self.records[fingerprint]

    def start_import(
        self,
        files: Sequence[Path],
        *,
        properties: Mapping[str, str],
        public: bool,
        filename: str,
        aliases: Sequence[str],
        fingerprint: str | None,
        scratch: Path,
    ) -> Operation:
        async def work(op: Operation) -> None:
            data = [path.read_bytes() for path in files]
            shutil.rmtree(scratch)
            if fingerprint not in (None, hashlib.sha256(b"".join(data)).hexdigest()):
                raise InvalidInput("The upload is damaged", field="fingerprint")
            self._finish(op, self._add(data, filename, properties, public), aliases)

        return self.operations.start("Importing image", work)

    def start_build(
        self, source: str, request: Any, aliases: Sequence[str] = (), public: bool = False, auto_update: bool = False
    ) -> Operation:
        async def work(op: Operation) -> None:
            text = json.dumps([source, request.name, dict(request.options)])
            self._finish(op, self._add([text.encode()], "", request.properties, public), aliases)

        return self.operations.start("Building image", work)

    def start_delete(self, fingerprint: str) -> Operation:
        async def work(op: Operation) -> None:
            del self.records[fingerprint]

        return self.operations.start("Deleting image", work)

    def _finish(self, op: Operation, image: Image, aliases: Sequence[str]) -> None:
        for name in aliases:
            self.names[name] = Alias(name, image.fingerprint)
        op.resources["images"] = (f"/1.0/images/{image.fingerprint}",)
        op.update_metadata(fingerprint=image.fingerprint, size=image.size)

    async def update(self, fingerprint: str, decide: Any) -> None:
        self.records[fingerprint] = decide(self.get(fingerprint))

    def export(self, fingerprint: str) -> Sequence[tuple[str, Path]]:
        return self.kept[fingerprint]

    def aliases(self) -> Any:
        return iter(list(self.names.values()))

    def alias(self, name: str) -> Alias:
        if name not in self.names:
            raise NotFound(f"Alias {name!r} not found")
        return self.names[name]

    async def add_alias(self, alias: Alias) -> None:
        self.names[alias.name] = alias

    async def update_alias(self, name: str, decide: Any) -> None:
        changed = decide(self.alias(name))
        self.names[name] = dataclasses.replace(changed, target=self.get(changed.target).fingerprint)

    async def rename_alias(self, old: str, new: str) -> None:
        self.names[new] = dataclasses.replace(self.names.pop(old), name=new)

    async def remove_alias(self, name: str) -> None:
        del self.names[name]
