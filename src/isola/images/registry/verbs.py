"""What doors do with registries: pull, push, look up, list, log in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from isola.errors import NotFound, Unsupported
from isola.host import Host
from isola.images.descriptor import Descriptor, digest_of
from isola.images.oci_manifest import read_document
from isola.images.registry.credentials import ANONYMOUS, Credentials
from isola.images.registry.describing import Description, describe
from isola.images.registry.listing import Repository, repositories, search_hub, tags
from isola.images.registry.manifests import Fetched
from isola.images.registry.progress import Watch, unwatched
from isola.images.registry.push import Content, Document, content_of, push_content
from isola.images.registry.reaching import Reach
from isola.images.registry.remote import Remote
from isola.images.registry.session import Session
from isola.images.registry.settings import Registries
from isola.images.registry.upload import Target
from isola.images.source import SourceRequest
from isola.images.store import ContentStore
from isola.model.caller import DAEMON, Caller
from isola.model.image import Alias, Image
from isola.model.image_reference import DOCKER_HUB, ImageReference, parse_full
from isola.model.names import alias_name
from isola.model.reference import DEFAULT_PROJECT, Ref
from isola.operations import Operation, Operations

_MOST_SOURCES = 3


def _of_layers(watch: Watch, configs: Collection[str]) -> Watch:
    """Without the configurations of images, which users do not know as layers."""
    return lambda event: None if event.digest in configs else watch(event)


class Build(Protocol):
    """``Acquire.build``."""

    async def __call__(
        self,
        op: Operation,
        source: str,
        request: SourceRequest,
        *,
        project: str,
        aliases: Sequence[str],
        public: bool,
        auto_update: bool,
    ) -> Image: ...


class RegistryVerbs:
    """Pulls and pushes run as operations; nothing that a client sends as credentials is kept."""

    def __init__(
        self,
        *,
        host: Host,
        reach: Reach,
        store: ContentStore,
        build: Build,
        get: Callable[[Ref], Image],
        aliases: Callable[[], Iterable[Alias]],
        operations: Callable[[], Operations],
        collect_garbage: Callable[[], Awaitable[object]],
        given_with: Callable[[Image, str], bool],
    ) -> None:
        """``given_with``: whether a blob belongs to another image of the index of an image."""
        self._given_with = given_with
        self._host = host
        self._reach = reach
        self._store = store
        self._build = build
        self._get = get
        self._aliases = aliases
        self._operations = operations
        self._collect_garbage = collect_garbage

    @property
    def settings(self) -> Registries:
        """The server's settings about registries, as they are now."""
        return self._reach.settings

    def start_pull(
        self,
        reference: ImageReference,
        *,
        platform: str = "",
        credentials: Credentials = ANONYMOUS,
        aliases: Sequence[str] = (),
        public: bool = False,
        auto_update: bool = False,
        watch: Watch = unwatched,
        project: str = DEFAULT_PROJECT,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Pull an image and point its full name, or else ``aliases``, to it; several pulls of it share downloads.

        The operation's metadata: ``fingerprint``, and ``digest`` of what the name refers to.
        """
        wanted = reference.at(digest=reference.digest) if reference.digest else reference.tagged()
        names = tuple(alias_name(name, "aliases") for name in aliases or (wanted.full,))
        options = {"platform": platform} if platform else {}
        request = SourceRequest(name=wanted.full, options=options, credentials=credentials, watch=watch)
        work = partial(
            self._build,
            source="oci",
            request=request,
            project=project,
            aliases=names,
            public=public,
            auto_update=auto_update,
        )
        return self._operations().start("Pulling image", work, project=project, caller=caller)

    def start_push(
        self,
        image: Ref,
        to: ImageReference,
        *,
        credentials: Credentials = ANONYMOUS,
        watch: Watch = unwatched,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Push an image, given by fingerprint, under a name of a registry. Raises NotFound, Unsupported.

        The operation's metadata: ``digest``, ``size`` of the manifest, and ``left_out`` if an index was not sent.
        """
        found = self._get(image)
        if not to.domain:
            raise Unsupported("The name has no registry", remedy="use REGISTRY/REPOSITORY:TAG")

        async def work(op: Operation) -> None:
            content = await content_of(self._store, found, partial(self._given_with, found))
            try:
                with self._store.holding(content.digests):
                    session = await self._reach.origin(to.domain, credentials)
                    target = Target(self._host, self._store, session, to.path, _of_layers(watch, content.configs))
                    await self._push(op, found, content, to.tagged(), target)
            finally:
                await self._collect_garbage()  # of an image that was deleted meanwhile

        return self._operations().start(
            "Pushing image", work, resources=(found.entity,), project=found.project, caller=caller
        )

    async def _push(self, op: Operation, image: Image, content: Content, to: ImageReference, target: Target) -> None:
        digest = await push_content(op, target, to, content, self._sources(image, to))
        await op.commit()
        op.update_metadata(digest=digest, size=content.top.at.size, reference=to.full, left_out=content.left_out)

    def _sources(self, image: Image, to: ImageReference) -> Mapping[str, Sequence[str]]:
        """Repositories of the registry that are known here to have layers of the image."""
        wanted = {layer.digest for layer in image.layers}
        found: dict[str, list[str]] = {}
        for alias in self._aliases():
            name = parse_full(alias.name) if alias.project == image.project else None
            if name is None or name.domain != to.domain or name.path == to.path:
                continue
            for layer in self._layers(alias):
                paths = found.setdefault(layer, [])
                if layer in wanted and name.path not in paths and len(paths) < _MOST_SOURCES:
                    paths.append(name.path)
        return found

    def _layers(self, alias: Alias) -> tuple[str, ...]:
        try:
            return tuple(layer.digest for layer in self._get(alias.ref.renamed(alias.target)).layers)
        except NotFound:
            return ()

    async def describe(self, reference: ImageReference, credentials: Credentials = ANONYMOUS) -> Description:
        """The document of a name with the platforms it is for. Raises NotFound, Forbidden, HostFailure."""
        session, found = await self._reach.find(reference, credentials)
        return await describe(session, reference, found)

    async def look_up(self, reference: ImageReference, credentials: Credentials = ANONYMOUS) -> Fetched:
        """The manifest or index of a name. Raises NotFound, Forbidden, HostFailure."""
        _, found = await self._reach.find(reference, credentials)
        return found

    async def open(self, reference: ImageReference, credentials: Credentials = ANONYMOUS) -> Remote:
        """What a name refers to, with its blobs. Raises NotFound, Forbidden, HostFailure."""
        return Remote(*await self._reach.find(reference, credentials), reference)

    async def push_artifact(
        self,
        op: Operation,
        to: ImageReference,
        credentials: Credentials,
        blobs: Sequence[Descriptor],
        manifest: bytes,
    ) -> str:
        """Push what is no image of a project; returns its digest. The caller holds its blobs in the store."""
        document = read_document(manifest)
        top = Document(Descriptor(document.media_type, digest_of(manifest), len(manifest)), manifest, document)
        session = await self._reach.origin(to.domain, credentials)
        target = Target(self._host, self._store, session, to.path, unwatched)
        return await push_content(op, target, to, Content(tuple(blobs), (), top, frozenset()), {})

    async def tags(self, reference: ImageReference, credentials: Credentials = ANONYMOUS) -> tuple[str, ...]:
        """The tags of a repository. Raises NotFound, Forbidden, HostFailure."""
        return await tags(await self._reach.origin(reference.domain, credentials), reference)

    async def search(
        self, domain: str, part: str, limit: int, credentials: Credentials = ANONYMOUS
    ) -> tuple[Repository, ...]:
        """Repositories of a registry with this text in their names. Raises NotFound, Unsupported, Forbidden."""
        if domain == DOCKER_HUB:
            return await search_hub(self._host.http, part, limit)
        found = await repositories(await self._reach.origin(domain, credentials), part)
        return tuple(Repository(name) for name in found[:limit])

    async def login(self, domain: str, credentials: Credentials) -> Session:
        """A session with these credentials. Raises Forbidden if they are wrong, HostFailure."""
        session = await self._reach.origin(domain, credentials)
        await session.login()
        return session
