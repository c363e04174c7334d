"""What users keep on the root volume of an instance: keys of their own, and a description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from isola.errors import InvalidInput
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.describe import describe_change
from isola.instances.fault_repair import repair_fault
from isola.instances.phases import require_kept
from isola.model.caller import DAEMON, Caller
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.settings import Setting, Settings, text

SETTINGS = Settings("root volume", Setting("user.*", text, "User-defined, not interpreted"))
_LARGEST = 64 << 10
"""Bytes of all: an instance's record is read and written as a whole."""


@dataclass(frozen=True, slots=True)
class RootNotes:
    """Keys that begin with ``user.``, and the description."""

    config: Mapping[str, str]
    description: str


Decide = Callable[[RootNotes], RootNotes]


def notes_of(instance: Instance) -> RootNotes:
    """Those that are recorded."""
    return RootNotes(instance.root_config, instance.root_description)


class RootVolumes:
    """The root volumes of all instances."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def change(self, ref: Ref, decide: Decide, *, caller: Caller = DAEMON) -> Operation:
        """Change its notes, also while its instance runs. Raises NotFound, InvalidInput, WrongState."""
        self._decided(ref, decide)
        return self._context.operations.start(
            "Updating storage volume",
            lambda op: self._change(op, ref, decide),
            locks=[lock_of(ref)],
            resources=[entity_of(ref)],
            caller=caller,
        )

    def _decided(self, ref: Ref, decide: Decide) -> Instance:
        instance = self._context.records.get(ref)
        require_kept(instance)
        wanted = decide(notes_of(instance))
        config = {key: value for key, value in wanted.config.items() if value}
        SETTINGS.validate(config)
        size = sum(len(each.encode("utf-8", "replace")) for each in (wanted.description, *config, *config.values()))
        if size > _LARGEST:
            raise InvalidInput(f"The notes on a root volume have more than {_LARGEST} bytes", field="config")
        return replace(instance, root_config=config, root_description=wanted.description)

    async def _change(self, op: Operation, ref: Ref, decide: Decide) -> None:
        await repair_fault(self._context, op, ref)
        held = self._context.records.read(ref)
        wanted = self._decided(ref, decide)
        await describe_change(self._context, op, held.value, wanted)
        await op.commit(lambda: self._context.records.replace(ref, wanted, at=held.revision))
