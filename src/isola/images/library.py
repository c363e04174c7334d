"""The images of this daemon: records, aliases, sources, and the content store beneath.

Contract (to be implemented here)::

    class ImageLibrary:
        def __init__(self, host: Host, images: Collection[Image], aliases: Collection[Alias], events: Events,
                     directory: Path,                                   # ISOLA_DIR; content store in directory/images
                     used_by: Callable[[str], Sequence[str]] = lambda fingerprint: ()) -> None
        probes: dict[str, Probe]                                        # source driver -> probe
        async def probe(self) -> None
        async def open(self) -> None                                    # at daemon start: empty scratch, gc half-made
        def __iter__(self) -> Iterator[Image]
        def get(self, fingerprint: str) -> Image                        # exact, or unambiguous prefix >= 4; NotFound
        def resolve(self, reference: str) -> Image | None               # alias first, then fingerprint (prefix)
        def offers(self) -> Mapping[str, str]                           # names sources can make: debian/12, debian/13
        async def ensure(self, op: Operation, reference: str) -> Image  # resolve, else build from a source + alias it;
                                                                        # concurrent callers share one build; NotFound
                                                                        # lists near names
        async def build(self, op: Operation, source: str, request: SourceRequest, *, aliases=()) -> Image
        async def import_files(self, op: Operation, files: Sequence[Path], *, properties, public, filename,
                               aliases=()) -> Image                     # 1 file: unified; 2: metadata, rootfs
        async def update(self, fingerprint: str, *, properties, public, auto_update, expires_at, profiles) -> None
        async def delete(self, op: Operation, fingerprint: str) -> None # InUse never: instances keep their layers
                                                                        # (layers are counted); aliases go too
        async def unpack_layer(self, digest: str, target: Path, progress=None) -> None    # an Unpack for storage
        def export(self, fingerprint: str) -> Sequence[tuple[str, Path]]   # [(file name, path)], 1 = unified, 2 = split
        # aliases: by exact name
        def aliases(self) -> Iterator[Alias]; def alias(self, name) -> Alias; async def add_alias(Alias)
        async def update_alias(name, target, description); async def rename_alias(old, new); async def remove_alias(name)
        def revision(self, fingerprint) -> int; def alias_revision(self, name) -> int
        async def collect_garbage(self, keep_layers: Collection[str]) -> int   # blobs no image and no kept layer names
"""
