"""The interface of verbs about the files of whole instances for doors: images from them, and what they changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import UnsafeArchive
from isola.host.cancellation import finish
from isola.instances import commit as commit_verb
from isola.instances import differences as differences_verb
from isola.instances import files as files_verb
from isola.instances.commit import CommitRequest
from isola.instances.context import Context, lock_of
from isola.instances.copying import Writing, owner_of
from isola.instances.phases import require_kept
from isola.instances.places import place
from isola.model.caller import DAEMON, Caller
from isola.model.file_change import FileChange
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation

_MOST_MEMBERS = 200_000


class Contents:
    """Roots of instances as a whole."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def commit(self, ref: Ref, request: CommitRequest, *, caller: Caller = DAEMON) -> Operation:
        """Make an image of it; the metadata of the operation has its ``fingerprint``.

        Raises NotFound, InvalidInput, Unsupported, WrongState.
        """
        commit_verb.check(self._context, ref, request)
        instance = self._context.records.get(ref)
        return self._context.operations.start(
            "Creating image from instance",
            lambda op: commit_verb.commit(self._context, op, ref, instance.id, request),
            locks=[lock_of(ref)],
            resources=[instance.entity],
            project=ref.project,
            caller=caller,
        )

    @asynccontextmanager
    async def tree(self, ref: Ref) -> AsyncIterator[AsyncIterator[bytes]]:
        """Its whole root as a tar archive, without what is mounted in it. Raises NotFound, WrongState."""
        instance = self._context.records.get(ref)
        require_kept(instance)
        async with self._context.storage(instance).contents(self._context.volume(instance)) as directory:
            yield self._context.host.archives.stream(directory)

    async def put(self, ref: Ref, archive: Path, path: str, *, own: bool = False, strict: bool = False) -> None:
        """Unpack an archive to a directory of an instance, running or not.

        ``own``: all files belong to the instance's user; ``strict``: no directory becomes a file, or a file one.
        Raises NotFound, InvalidInput, UnsafeArchive.
        """
        instance, host = self._context.records.get(ref), self._context.host
        plain = archive.with_name(f"{archive.name}.plain")
        try:
            limits = self._context.images.limits
            most = min(_MOST_MEMBERS, limits.entries)
            index = await host.archives.list_members(archive, plain, most=most, limits=limits)
            if sum(each.size for each in index.members) > limits.bytes:
                raise UnsafeArchive(
                    "The archive is too large when unpacked", evidence=f"more than {limits.bytes} bytes"
                )
            owner = await self._owner(instance) if own else None
            async with place(self._context, instance, path) as found:
                await Writing(host, found.root, found.path, owner=owner, strict=strict).run(index)
        finally:
            await finish(host.files.remove_tree(plain))

    async def _owner(self, instance: Instance) -> tuple[int, int]:
        async with files_verb.root(self._context, instance) as root:
            return await owner_of(root, instance.start.user)

    async def changes(self, ref: Ref, *, caller: Caller = DAEMON) -> Sequence[FileChange]:
        """What its root has changed of its image, in the order of paths. Raises NotFound, TooLarge, WrongState."""
        return await differences_verb.changes(self._context, ref, caller)
