"""The interface of all verbs of instances for doors; each verb is implemented in its own file."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

from isola.errors import AlreadyExists
from isola.host.files import Root
from isola.instances import console as console_verb
from isola.instances import copy as copy_verb
from isola.instances import create as create_verb
from isola.instances import delete as delete_verb
from isola.instances import exec as exec_verb
from isola.instances import files as files_verb
from isola.instances import last_run as last_run_verb
from isola.instances import metadata as metadata_verb
from isola.instances import move as move_verb
from isola.instances import refresh as refresh_verb
from isola.instances import rename as rename_verb
from isola.instances import stop as stop_verb
from isola.instances import supervise
from isola.instances import unknown as unknown_verbs
from isola.instances import update as update_verb
from isola.instances.change_many import change_all
from isola.instances.commands import Command, Commands
from isola.instances.configuration import expanded
from isola.instances.console import Console
from isola.instances.contents import Contents
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.copy import Source
from isola.instances.deploy.deployments import Deployments
from isola.instances.display import Display, check_display
from isola.instances.files import FilesSession
from isola.instances.hotplug import Hotplug
from isola.instances.learning import Learning
from isola.instances.log_verbs import Logs
from isola.instances.move import Destination
from isola.instances.places import Place
from isola.instances.places import place as place_of
from isola.instances.profile_changes import profile_changed
from isola.instances.quiesce import thaw_left_frozen
from isola.instances.ranges import claim_again, give_up_unused, look_around
from isola.instances.reboots import leave
from isola.instances.reconcile import reconcile
from isola.instances.root_limits import apply_sizes
from isola.instances.root_notes import RootVolumes
from isola.instances.running import require_live
from isola.instances.runs import Runs
from isola.instances.shutdown import shutdown
from isola.instances.snapshots import Snapshots
from isola.instances.start import require_stopped
from isola.instances.start import start as start_verb
from isola.instances.state import observe, observe_all
from isola.instances.stop import Manner
from isola.instances.suspend import require_stoppable, stop_saving
from isola.instances.unknowns import entity_of as unknown_entity
from isola.instances.volatile import kept_keys
from isola.model.caller import DAEMON, Caller
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.instance import Config, Devices, Instance, InstanceRequest, InstanceState, Status, Unknown
from isola.model.last_run import Until
from isola.model.reference import DEFAULT_PROJECT, Ref
from isola.model.state_change import Action, StateChange
from isola.operations import Operation
from isola.runtimes import Attachment
from isola.state import Versioned


class Instances:
    """Reads are from memory; every mutation returns its running operation at once.

    Errors that can be determined in advance are raised by the call, all others by the operation.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._commands = Commands(context)
        self.snapshots = Snapshots(context)
        self.root_volumes = RootVolumes(context)
        self.contents = Contents(context)
        self.runs = Runs(context)
        self.deployments = Deployments(context)
        self.learning = Learning(context)
        self.hotplug = Hotplug(context)
        self.logs = Logs(context)

    async def look(self) -> None:
        """Find instances on the host without a record; after the pools are open, before any ids or addresses are
        chosen.
        """
        await unknown_verbs.look(self._context)

    async def open(self) -> None:
        """Adopt running instances, complete interrupted changes, and start instances after a boot of the host."""
        await claim_again(self._context)
        await reconcile(self._context)
        await thaw_left_frozen(self._context)
        await apply_sizes(self._context)
        await self.snapshots.open()
        await give_up_unused(self._context)
        await look_around(self._context)
        await self.learning.refused.open()

    async def close(self) -> None:
        """Stop supervising; the instances keep running."""
        self.learning.close()
        for live in self._context.live.values():
            supervise.leave(live)
        await self._context.devices.close()
        leave(self._context)
        if self._context.undoing is not None:
            self._context.undoing.cancel()
        for task in (*self._context.releasing, *self._context.repairs.values()):
            task.cancel()

    async def shutdown(self) -> None:
        """Stop all running instances; the next start of the daemon starts them again."""
        await shutdown(self._context)

    # --- reading ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._context.records)

    def __len__(self) -> int:
        return len(self._context.records)

    def get(self, ref: Ref) -> Instance:
        """Raises NotFound."""
        return self._context.records.get(ref)

    def read(self, ref: Ref) -> Versioned[Instance]:
        """The record with its revision, as one value. Raises NotFound."""
        return self._context.records.read(ref)

    def find(self, ref: Ref) -> Instance | None:
        return self._context.records.find(ref)

    def by_id(self, id: str) -> Instance | None:
        """The record with this id."""
        return self._context.by_id(id)

    def again(self, instance: Instance) -> Versioned[Instance] | None:
        """The current record of the same instance, even if it was renamed; None if it was deleted."""
        found = self._context.records.find(instance.ref)
        if found is None or found.id != instance.id:
            found = self._context.by_id(instance.id)
        return None if found is None else self._context.records.read(found.ref)

    @property
    def generation(self) -> tuple[object, ...]:
        """Changes with every change of any record or status, and with what ``is_saved`` answers."""
        return self._context.generation

    def status(self, instance: Instance) -> Status:
        """Observed status."""
        return self._context.status(instance)

    def expanded(self, instance: Instance) -> tuple[Config, Devices]:
        """Configuration and devices including those of profiles, image and daemon."""
        config, devices = expanded(self._context, instance)
        return dict(config) | kept_keys(instance), devices

    def config(self, instance: Instance) -> Config:
        """Local configuration including keys of image and daemon."""
        return dict(instance.config) | kept_keys(instance)

    def unknown(self) -> list[Unknown]:
        """Instances on the host without a record."""
        return list(self._context.unknown.values())

    async def state(self, instance: Instance, *, disk: bool = True) -> InstanceState:
        """The observed state; without ``disk``, no directory is walked."""
        return await observe(self._context, instance, disk=disk)

    async def states(self, instances: Sequence[Instance]) -> Sequence[InstanceState]:
        """The same for many at once, without walking their disks."""
        return await observe_all(self._context, instances)

    def wait(self, ref: Ref, until: Until = Until.NOT_RUNNING) -> asyncio.Future[int]:
        """The exit status of its run, when it has ended; a waiter counts from this call on. Raises NotFound."""
        return last_run_verb.wait(self._context, self.get(ref), until)

    # --- mutations ----------------------------------------------------------------------------------------------

    def create(self, request: InstanceRequest, *, caller: Caller = DAEMON) -> Operation:
        """Create, and with ``request.start`` start."""
        plan = create_verb.check(self._context, request)
        if plan.ref in self._context.records:
            raise AlreadyExists(
                f"Instance {plan.ref.name!r} already exists",
                field="name",
                remedy="choose another name or delete it first",
            )
        return self._operate(
            "Creating instance",
            plan.ref,
            lambda op: create_verb.create(self._context, op, plan),
            caller=caller,
            wait=False,
        )

    def copy(self, source: Source, request: InstanceRequest, *, caller: Caller = DAEMON) -> Operation:
        """Copy an instance or a snapshot. The request overrides properties of the source.

        Raises NotFound, InvalidInput, AlreadyExists, Forbidden, Unsupported.
        """
        plan = copy_verb.plan(self._context, source, request)
        if plan.ref in self._context.records:
            raise AlreadyExists(
                f"Instance {plan.ref.name!r} already exists", field="name", remedy="choose another name"
            )
        request = dataclasses.replace(request, name=plan.ref.name)
        return self._operate(
            "Copying instance",
            plan.ref,
            lambda op: copy_verb.copy(self._context, op, source, request),
            caller=caller,
            also=[source.ref],
        )

    def refresh(self, source: Source, ref: Ref, *, caller: Caller = DAEMON) -> Operation:
        """Bring a stopped copy up to date. Raises NotFound, InvalidInput, WrongState, Unsupported, Forbidden."""
        self.get(source.ref)
        self.get(ref)
        if self._idle(ref):
            refresh_verb.check(self._context, source, ref)
        return self._operate(
            "Refreshing instance",
            ref,
            lambda op: refresh_verb.refresh(self._context, op, source, ref),
            caller=caller,
            also=[source.ref],
        )

    def is_saved(self, instance: Instance) -> bool:
        """Whether its next start continues from a saved state."""
        return instance.id in self._context.saved and instance.id not in self._context.live

    def start(self, ref: Ref, *, stateful: bool | None = None, caller: Caller = DAEMON) -> Operation:
        """``stateful``: from its saved state; None: if it has one; False: which is discarded.

        Raises NotFound, WrongState, Busy.
        """
        instance = self.get(ref)
        if self._idle(ref):
            require_stopped(self._context, instance)
        return self._change_run_state(
            "Starting instance",
            ref,
            caller,
            lambda op: start_verb(self._context, op, ref, stateful=stateful),
            done=lambda found: found is not None and found.id in self._context.live,
        )

    def stop(
        self,
        ref: Ref,
        *,
        timeout: float | None = 30,
        force: bool = False,
        kill: bool = False,
        signal: int | None = None,
        by_signal: bool = False,
        stateful: bool = False,
        caller: Caller = DAEMON,
    ) -> Operation:
        """As in ``Manner``; with ``force`` other operations are cancelled. ``stateful``: keep what is in memory.

        Raises NotFound, WrongState, Busy, Unsupported, InvalidInput.
        """
        instance = self.get(ref)
        if stateful:
            return self._suspend(instance, caller)
        if self._idle(ref):
            stop_verb.require_running(self._context, instance)
        return self._change_run_state(
            "Stopping instance",
            ref,
            caller,
            lambda op: stop_verb.stop(self._context, op, ref, Manner(timeout, force, kill, signal, by_signal)),
            done=lambda found: found is None or not self._context.runs(found),
            force=force,
        )

    def _suspend(self, instance: Instance, caller: Caller) -> Operation:
        require_stoppable(self._context, instance)
        if self._idle(instance.ref):
            require_live(self._context, instance)
        return self._change_run_state(
            "Stopping instance",
            instance.ref,
            caller,
            lambda op: stop_saving(self._context, op, instance.ref),
            done=lambda found: found is None or not self._context.runs(found),
        )

    def restart(
        self,
        ref: Ref,
        *,
        timeout: float | None = 30,
        force: bool = False,
        kill: bool = False,
        signal: int | None = None,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        instance = self.get(ref)
        if self._idle(ref):
            stop_verb.require_running(self._context, instance)
        return self._change_run_state(
            "Restarting instance",
            ref,
            caller,
            lambda op: stop_verb.restart(self._context, op, ref, Manner(timeout, force, kill, signal)),
            force=force,
        )

    def pause(self, ref: Ref, *, caller: Caller = DAEMON) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        instance = self.get(ref)
        if self._idle(ref):
            require_live(self._context, instance)
        return self._change_run_state(
            "Freezing instance",
            ref,
            caller,
            lambda op: stop_verb.pause(self._context, op, ref),
            done=lambda found: found is not None and self.status(found) is Status.FROZEN,
        )

    def resume(self, ref: Ref, *, caller: Caller = DAEMON) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        instance = self.get(ref)
        if self._idle(ref):
            require_live(self._context, instance)
        return self._change_run_state(
            "Unfreezing instance",
            ref,
            caller,
            lambda op: stop_verb.resume(self._context, op, ref),
            done=lambda found: found is not None and self.status(found) is Status.RUNNING,
        )

    def change_state(self, ref: Ref, change: StateChange, *, caller: Caller = DAEMON) -> Operation:
        """Start, stop, restart, freeze or unfreeze; starting a frozen instance unfreezes it. Raises the verb's
        errors.
        """
        if change.action is Action.STOP:
            how = {"force": change.force, "kill": change.kill, "stateful": bool(change.stateful)}
            return self.stop(ref, timeout=change.timeout, **how, caller=caller)
        if change.action is Action.RESTART:
            return self.restart(ref, timeout=change.timeout, force=change.force, kill=change.kill, caller=caller)
        if change.action is Action.FREEZE:
            return self.pause(ref, caller=caller)
        if change.action is Action.UNFREEZE or self.status(self.get(ref)) is Status.FROZEN:
            return self.resume(ref, caller=caller)
        return self.start(ref, stateful=change.stateful, caller=caller)

    def change_states(
        self,
        instances: Sequence[Instance],
        change: StateChange,
        *,
        project: str | None = None,
        caller: Caller = DAEMON,
    ) -> Operation:
        """The same for all instances to which it applies."""
        chosen = [instance for instance in instances if self.status(instance) in change.action.fitting]
        return change_all(
            self._context.operations,
            chosen,
            lambda ref: self.change_state(ref, change, caller=caller),
            project=project,
            caller=caller,
        )

    def rename(self, ref: Ref, new: str, *, running: bool = False, caller: Caller = DAEMON) -> Operation:
        """``running``: whether it may be. Raises NotFound, InvalidInput, AlreadyExists, WrongState."""
        self.get(ref)
        if self._idle(ref):
            rename_verb.check(self._context, ref, new, running=running)
        return self._operate(
            "Renaming instance",
            ref,
            lambda op: rename_verb.rename(self._context, op, ref, new, running=running),
            caller=caller,
            also=[ref.renamed(new)],
        )

    def move(self, ref: Ref, to: Destination, *, caller: Caller = DAEMON) -> Operation:
        """To another pool, project or name. Raises NotFound, InvalidInput, AlreadyExists, WrongState, Forbidden."""
        self.get(ref)
        if self._idle(ref):
            move_verb.check(self._context, ref, to)
        return self._operate(
            "Moving instance",
            ref,
            lambda op: move_verb.move(self._context, op, ref, to),
            caller=caller,
            also=[to.ref] if to.ref != ref else [],
        )

    def delete(self, ref: Ref, *, force: bool = False, caller: Caller = DAEMON) -> Operation:
        """Raises NotFound, Forbidden, WrongState while it runs unless ``force``."""
        delete_verb.check(self._context, ref, force=force or not self._idle(ref))

        async def work(op: Operation) -> None:
            if not (op.waited and ref not in self._context.records):
                await delete_verb.delete(self._context, op, ref, force=force)

        return self._operate("Deleting instance", ref, work, caller=caller, urgent=force)

    def update(self, ref: Ref, decide: update_verb.Decide, *, caller: Caller = DAEMON) -> Operation:
        """Keys that are live take effect at once. ``decide`` is called now, for validation, and again under the lock.

        Raises NotFound, InvalidInput, WrongState, and the errors of ``decide``.
        """
        update_verb.check(self._context, ref, decide(self.get(ref)))
        return self._operate(
            "Updating instance", ref, lambda op: update_verb.update(self._context, op, ref, decide), caller=caller
        )

    def change_metadata(self, ref: Ref, decide: metadata_verb.Decide, *, caller: Caller = DAEMON) -> Operation:
        """Change the metadata of its image and its templates. Raises as ``update``."""
        metadata_verb.check(self._context, ref, decide)
        what = "Updating instance metadata"
        return self._operate(what, ref, lambda op: metadata_verb.change(self._context, op, ref, decide), caller=caller)

    def adopt(self, id: str, name: str = "", *, caller: Caller = DAEMON) -> Operation:
        """Restore a record from its description; a running instance keeps running. Raises NotFound."""
        found = unknown_verbs.find(self._context, id)
        said = found.instance
        known = Ref(said.project if said else DEFAULT_PROJECT, name or (said.name if said else found.id))
        return self._operate(
            "Adopting instance", known, lambda op: unknown_verbs.adopt(self._context, op, id, name), caller=caller
        )

    def remove_unknown(self, id: str, *, caller: Caller = DAEMON) -> Operation:
        """Remove an instance without a record. Raises NotFound."""
        found = unknown_verbs.find(self._context, id)
        return self._context.operations.start(
            "Removing an unknown instance",
            lambda op: unknown_verbs.remove(self._context, op, found.key),
            locks=[unknown_entity(found).lock],
            caller=caller,
        )

    async def profile_changed(
        self,
        profile: Ref,
        record: Callable[[], Awaitable[object]],
        take_back: Callable[[], Awaitable[object]],
        caller: Caller,
    ) -> None:
        """Record a profile's change and apply it to all its instances or none, once no other operation works."""
        await profile_changed(self._context, profile, record, take_back, caller)

    def exec(self, ref: Ref, request: ExecRequest, *, caller: Caller = DAEMON) -> Command:
        """Create a command. Raises NotFound, WrongState, InvalidInput."""
        return self._commands.make(self.get(ref), request, caller)

    async def require_user(self, ref: Ref, request: ExecRequest) -> None:
        """Check that a command's user is known inside, before it is created. Raises as ``exec``."""
        await exec_verb.require_user(self._context, self.get(ref), request)

    def command(self, id: str) -> Command:
        """A command by its id. Raises NotFound."""
        return self._commands.get(id)

    def commands(self, ref: Ref) -> Sequence[Command]:
        """Running and remembered commands of an instance. Raises NotFound."""
        return self._commands.of(self.get(ref))

    def console(self, ref: Ref, request: ConsoleRequest, *, caller: Caller = DAEMON) -> Console:
        """A console, not attached yet. Raises NotFound, WrongState, Unsupported."""
        instance = self.get(ref)
        console_verb.check(self._context, instance, request)
        return Console(self._context, instance, request, caller)

    def display(self, ref: Ref, request: ConsoleRequest, *, caller: Caller = DAEMON) -> Display:
        """Its screen, not opened yet. Raises NotFound, WrongState, Unsupported."""
        instance = self.get(ref)
        check_display(self._context, instance, request)
        return Display(self._context, instance, caller)

    # --- consoles, files ----------------------------------------------------------------------------------------

    async def attach(self, ref: Ref, *, ahead: bool = False) -> Attachment:
        """To what its first process says from now on, and to its input. Raises NotFound, WrongState.

        With ``ahead``, of one that does not run, to all that its next run says.
        """
        return await console_verb.attach(self._context, self.get(ref), ahead=ahead)

    def files(self, ref: Ref) -> AbstractAsyncContextManager[Root]:
        """The instance's files, running or not. Raises NotFound."""
        return files_verb.root(self._context, self.get(ref))

    def place(self, ref: Ref, path: str) -> AbstractAsyncContextManager[Place]:
        """Where a path of it is, volumes of a stopped one included. Raises NotFound, WrongState."""
        return place_of(self._context, self.get(ref), path)

    def files_session(self, ref: Ref) -> AbstractAsyncContextManager[FilesSession]:
        """The same for a client that stays connected. Raises NotFound, WrongState, Conflict."""
        return files_verb.session(self._context, self.get(ref))

    # --- operations ---------------------------------------------------------------------------------------------

    def _idle(self, ref: Ref) -> bool:
        """Whether no operation works on it, so that its current state is the one that a new operation will find."""
        return self._context.operations.holder(lock_of(ref)) is None

    def _change_run_state(
        self,
        description: str,
        ref: Ref,
        caller: Caller,
        work: Callable[[Operation], Awaitable[object]],
        *,
        done: Callable[[Instance | None], bool] = lambda found: False,
        force: bool = False,
    ) -> Operation:
        """Change its run state.

        As in LXD, the same verb twice is executed once, and a different one is refused meanwhile.
        A verb has no effect if its result is already reached when its turn comes.
        """
        holder = self._context.operations.holder(lock_of(ref))
        other = holder is not None and holder.gives_way and holder.description != description

        async def unless_done(op: Operation) -> None:
            if not (op.waited and done(self._context.records.find(ref))):
                await work(op)

        return self._operate(description, ref, unless_done, caller=caller, wait=not other, urgent=force, gives_way=True)

    def _operate(
        self,
        description: str,
        ref: Ref,
        work: Callable[[Operation], Awaitable[object]],
        *,
        caller: Caller,
        also: Sequence[Ref] = (),
        wait: bool = True,
        urgent: bool = False,
        gives_way: bool = False,
    ) -> Operation:
        return self._context.operations.start(
            description,
            work,
            locks=[lock_of(each) for each in (ref, *also)],
            resources=[entity_of(ref)],
            caller=caller,
            wait=wait,
            urgent=urgent,
            gives_way=gives_way,
        )
