"""Images of OCI registries: Docker Hub, and every server that speaks the OCI distribution protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.errors import InvalidInput, TooLarge, Unsupported
from isola.host import Host
from isola.images.archive_limits import limits_of
from isola.images.descriptor import Descriptor
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.oci_config import read_config
from isola.images.oci_image import oci_image
from isola.images.oci_manifest import Index, Manifest, check_image
from isola.images.platforms import check_platform, choose, parse_platform
from isola.images.registry.blobs import RegistryBlob
from isola.images.registry.manifests import Fetched, fetch
from isola.images.registry.parallel import all_of
from isola.images.registry.progress import LayerEvent, LayerState, Watch
from isola.images.registry.reaching import Reach
from isola.images.registry.session import Session
from isola.images.source import ImageSource, SourceRequest
from isola.images.store import Intake
from isola.model.image import Image
from isola.model.image_reference import ImageReference, names_registry, parse
from isola.model.probe import Probe
from isola.operations import Operation, Step
from isola.settings import Setting, Settings

PLATFORM = "platform"
_OF = "docker.io"


class OciSource(ImageSource):
    """Pulls images; a name is used if it has a registry, or if the settings name one for those without."""

    settings = Settings(
        "image option",
        Setting(
            PLATFORM,
            parse_platform,
            "Platform to choose of an image for several, as in `linux/arm64`; by default that of this host.",
            expects="a platform such as linux/arm64 or linux/arm/v7",
        ),
    )

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Always available: which registries can be reached is known when one is asked."""
        return Probe(True)

    def offers(self) -> Mapping[str, str]:
        """Empty: registries have too many images to list."""
        return {}

    def serves(self, name: str) -> bool:
        """Whether the name has a registry, or a registry for such names is configured."""
        default = self._reach.settings.default
        if not names_registry(name) and not default:
            return False
        try:
            return self._reference(name).domain == default or names_registry(name)
        except InvalidInput:
            return False

    def canonical(self, name: str) -> str:
        """With registry and path, and with the digest or else the tag."""
        return self._reference(name).full

    def aliases(self, name: str) -> Sequence[str]:
        """The canonical name alone: what a user has typed may mean another image tomorrow."""
        return (self.canonical(name),)

    def check(self, request: SourceRequest) -> None:
        """Needs a name; a short one only with a default registry."""
        if request.files or request.properties:
            raise InvalidInput("A pull takes no files and no properties", field="properties")
        self.settings.validate(request.options, where="options")
        if not names_registry(request.name) and not self._reach.settings.default:
            raise InvalidInput(
                f"The name {request.name[:80]!r} has no registry",
                field="source.alias",
                remedy=f"use {_OF}/{request.name[:80]}, or set images.registry.default",
            )
        self._reference(request.name)

    @property
    def _reach(self) -> Reach:
        return Reach(self.host, self.certificates, self.config)

    def _reference(self, name: str) -> ImageReference:
        found = parse(name, self._reach.settings.default or _OF).tagged()
        return found.at(digest=found.digest) if found.digest else found

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        reference = self._reference(request.name)
        with op.step(f"Pull {reference.familiar}") as step:
            session, top = await self._reach.find(reference, request.credentials)
            pull = _Pull(op, step, intake, session, reference, request.watch)
            found = await self._chosen(pull, top, request.options.get(PLATFORM, ""))
            manifest = found.document
            if not isinstance(manifest, Manifest):
                raise Unsupported("An index of indexes is not supported", remedy="name the image by its digest")
            check_image(manifest)
            self._check_sizes(manifest)
            await op.effect("store manifest", lambda: pull.put(found))
            await pull.fetch_config(manifest)
            # Before the layers: a configuration that cannot be used ends the transfer early.
            config = read_config(await intake.read(manifest.config.digest))
            check_platform(config.architecture, request.options.get(PLATFORM, ""))
            source = {"driver": "oci", "reference": reference.full, "digest": top.at.digest, **request.options}
            index = top.at.digest if found is not top else ""
            image = oci_image(found.at, manifest, config, now=self.host.clock.now(), index=index, source=source)
            op.update_metadata(digest=top.at.digest, reference=reference.full)
            await op.effect("store layers", lambda: pull.fetch_layers(manifest))
            return image

    def _check_sizes(self, manifest: Manifest) -> None:
        """A layer that could not be unpacked is not downloaded."""
        most = limits_of(self.config).bytes
        for layer in manifest.layers:
            if layer.size > most:
                raise TooLarge(
                    "A layer of the image is too large",
                    evidence=f"{layer.size} bytes, at most {most}",
                    remedy="raise images.limits.bytes if you trust the image",
                )

    async def _chosen(self, pull: _Pull, top: Fetched, platform: str) -> Fetched:
        """The document itself, or of an index the manifest for the platform."""
        if not isinstance(top.document, Index):
            return top
        chosen = choose(top.document, self.host.system.kernel().architecture, platform)
        await pull.op.effect("store index", lambda: pull.put(top))
        return await fetch(pull.session, pull.reference.at(digest=chosen.digest))


@dataclass(frozen=True, slots=True)
class _Pull:
    """One pull, from the server that has the image."""

    op: Operation
    step: Step
    intake: Intake
    session: Session
    reference: ImageReference
    watch: Watch

    async def put(self, found: Fetched) -> None:
        await self.intake.put_bytes(found.data, found.at.media_type, expected=found.at.digest)

    async def fetch_config(self, manifest: Manifest) -> None:
        if manifest.config.size > MAX_DOCUMENT:
            raise TooLarge("The configuration of the image is too large", evidence=f"{manifest.config.size} bytes")
        source = self._source(manifest.config)
        await self.op.effect("store configuration", lambda: self.intake.fetch(manifest.config, source))

    async def fetch_layers(self, manifest: Manifest) -> None:
        """All layers at once; ``Downloads`` bounds how many are being transferred."""
        layers = {layer.digest: layer for layer in manifest.layers}
        for layer in layers.values():
            self.watch(LayerEvent(layer.digest, LayerState.WAITING, 0, layer.size))
        await all_of(self._fetch_layer(layer) for layer in layers.values())

    async def _fetch_layer(self, layer: Descriptor) -> None:
        if await self.intake.holds(layer.digest):
            await self.intake.fetch(layer, self._source(layer))
            self.watch(LayerEvent(layer.digest, LayerState.PRESENT, layer.size, layer.size))
            return
        with self.op.step(f"Download {layer.digest[7:19]}", total=layer.size, unit="bytes") as step:
            step.depth = self.step.depth + 1  # beside the others, not inside them

            def advance(amount: int) -> None:
                step.advance(amount)
                self.watch(LayerEvent(layer.digest, LayerState.MOVING, step.done, layer.size))

            await self.intake.fetch(layer, self._source(layer), advance)
        self.watch(LayerEvent(layer.digest, LayerState.COMPLETE, layer.size, layer.size))

    def _source(self, blob: Descriptor) -> RegistryBlob:
        return RegistryBlob(self.session, self.reference.path, blob.digest)


DRIVER = OciSource
