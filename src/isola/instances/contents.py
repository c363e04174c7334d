"""The interface of verbs about the files of whole instances for doors: images from them, and what they changed."""

from __future__ import annotations

from collections.abc import Sequence

from isola.instances import commit as commit_verb
from isola.instances import differences as differences_verb
from isola.instances.commit import CommitRequest
from isola.instances.context import Context, lock_of
from isola.model.caller import DAEMON, Caller
from isola.model.file_change import FileChange
from isola.model.reference import Ref
from isola.operations import Operation


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

    async def changes(self, ref: Ref, *, caller: Caller = DAEMON) -> Sequence[FileChange]:
        """What its root has changed of its image, in the order of paths. Raises NotFound, TooLarge, WrongState."""
        return await differences_verb.changes(self._context, ref, caller)
