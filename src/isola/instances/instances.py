"""All verbs of instances, as doors call them; each verb's work stands in a file of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

from isola.errors import AlreadyExists, NotFound, Unsupported
from isola.host.files import Root
from isola.instances import console as console_verb
from isola.instances import create as create_verb
from isola.instances import delete as delete_verb
from isola.instances import evidence
from isola.instances import files as files_verb
from isola.instances import logs as logs_verb
from isola.instances import rename as rename_verb
from isola.instances import stop as stop_verb
from isola.instances import unknown as unknown_verbs
from isola.instances import update as update_verb
from isola.instances.commands import Command, Commands
from isola.instances.console import Console
from isola.instances.context import Context, address, lock_of
from isola.instances.expand import network_of
from isola.instances.files import FilesSession
from isola.instances.identity import nics_of
from isola.instances.layers import drop_unused, in_use
from isola.instances.ranges import claim_again, give_up_unused, look_around
from isola.instances.reconcile import reconcile
from isola.instances.restarts import leave
from isola.instances.shutdown import shutdown
from isola.instances.start import expanded, require_stopped
from isola.instances.start import start as start_verb
from isola.instances.state import observe, observe_all
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.instance import Config, Devices, Instance, InstanceRequest, InstanceState, Status, Unknown
from isola.model.network import Nic
from isola.model.volume import VolumeRef
from isola.operations import Operation
from isola.state import Versioned

_STATEFUL = Unsupported("Stateful stop and start are not offered yet", field="stateful", remedy="leave it out")


class Instances:
    """Reading is quick and from memory; every mutation returns its running operation at once.

    What can be known to be wrong beforehand is raised by the call itself, the rest by the operation.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._commands = Commands(context)

    async def look(self) -> None:
        """Find what is on the host and in no record; once the pools are there, and before anything is chosen."""
        await unknown_verbs.look(self._context)

    async def open(self) -> None:
        """Adopt what runs, finish or remove what is half made, start what a boot stopped."""
        await claim_again(self._context)
        await reconcile(self._context)
        await give_up_unused(self._context)
        await look_around(self._context)

    async def close(self) -> None:
        """Stop looking; the instances run on."""
        for live in self._context.live.values():
            if live.watcher is not None:
                live.watcher.cancel()
        leave(self._context)
        if self._context.undoing is not None:
            self._context.undoing.cancel()

    async def shutdown(self) -> None:
        """Stop all that runs; the next start of the daemon starts it again."""
        await shutdown(self._context)

    # --- reading ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._context.records)

    def __len__(self) -> int:
        return len(self._context.records)

    def get(self, name: str, project: str = "default") -> Instance:
        """Raises NotFound."""
        instance = self._context.records.get(name)
        if instance.project != project:
            raise NotFound(f"Instance {name!r} not found")
        return instance

    def read(self, name: str, project: str = "default") -> Versioned[Instance]:
        """The record with its revision, as one value. Raises NotFound."""
        self.get(name, project)
        return self._context.records.read(name)

    def again(self, instance: Instance) -> Versioned[Instance] | None:
        """The record of the same instance as it stands now, whatever its name is by now; None when it is gone."""
        found = self._context.records.find(instance.name)
        if found is None or found.id != instance.id:
            found = self._context.by_id(instance.id)
        return None if found is None else self._context.records.read(found.name)

    def status(self, instance: Instance) -> Status:
        """Observed status."""
        return self._context.status(instance)

    def expanded(self, instance: Instance) -> tuple[Config, Devices]:
        """Configuration and devices with what profiles, image and daemon add."""
        config, devices = expanded(self._context, instance)
        return dict(config) | self._kept(instance), devices

    def config(self, instance: Instance) -> Config:
        """Local configuration with what image and daemon add."""
        return dict(instance.config) | self._kept(instance)

    def _kept(self, instance: Instance) -> dict[str, str]:
        kept = {f"image.{key}": value for key, value in instance.image_properties.items()}
        kept |= {f"volatile.{key}": value for key, value in instance.volatile.items()}
        kept["volatile.last_state.power"] = "RUNNING" if instance.desired == "running" else "STOPPED"
        return kept

    def used_by_image(self, fingerprint: str) -> list[str]:
        """API paths of the instances made from an image."""
        return [address(instance.name) for instance in self if instance.image == fingerprint]

    def used_by_profile(self, name: str) -> list[str]:
        """API paths of the instances that have a profile."""
        return [address(instance.name) for instance in self if name in instance.profiles]

    def used_by_pool(self, name: str) -> list[str]:
        """API paths of what lies in a pool or refers to it."""
        profiles = [p for p in self._context.profiles if any(d.get("pool") == name for d in p.devices.values())]
        users = [instance for instance in self if instance.volatile.get("root.pool") == name]
        left = [_unknown_path(each) for each in self.unknown() if each.pool == name]
        paths = [address(instance.name) for instance in users]
        return paths + [f"/1.0/profiles/{profile.name}" for profile in profiles] + left

    def used_by_volume(self, ref: VolumeRef) -> list[str]:
        """API paths of what has a custom volume among its devices."""

        def names(devices: Devices) -> bool:
            return any(d.get("pool") == ref.pool and d.get("source") == ref.name for d in devices.values())

        users = [address(each.name) for each in self if names(expanded(self._context, each)[1])]
        return users + [f"/1.0/profiles/{profile.name}" for profile in self._context.profiles if names(profile.devices)]

    def used_by_network(self, name: str) -> list[str]:
        """API paths of what has a NIC on a network."""

        def names(devices: Devices) -> bool:
            return any(d.get("type") == "nic" and network_of(d) == name for d in devices.values())

        users = [address(instance.name) for instance in self if names(expanded(self._context, instance)[1])]
        users += [f"/1.0/profiles/{profile.name}" for profile in self._context.profiles if names(profile.devices)]
        left = [each for each in self.unknown() if each.instance is not None]
        return users + [
            _unknown_path(each)
            for each in left
            if each.instance and any(nic.network == name for nic in nics_of(self._context, each.instance))
        ]

    def unknown(self) -> list[Unknown]:
        """What is on the host of instances that no record speaks for."""
        return [each for _, each in sorted(self._context.unknown.items())]

    def layers(self) -> frozenset[str]:
        """Digests of the image layers that instances stand on."""
        return in_use(self._context)

    async def image_deleted(self, layers: Collection[str]) -> None:
        """Remove those of the unpacked layers that only an image needed which is gone."""
        await drop_unused(self._context, layers)

    def nics(self, network: str) -> list[Nic]:
        context = self._context
        return [nic for each in context.everybody() for nic in nics_of(context, each) if nic.network == network]

    async def state(self, instance: Instance, *, disk: bool = True) -> InstanceState:
        """What is observed now; without ``disk`` nothing is walked."""
        return await observe(self._context, instance, disk=disk)

    async def states(self, instances: Sequence[Instance]) -> Sequence[InstanceState]:
        """The same for many at once, without walking their disks."""
        return await observe_all(self._context, instances)

    # --- mutations ----------------------------------------------------------------------------------------------

    def create(self, request: InstanceRequest) -> Operation:
        """Create, and with ``request.start`` start."""
        plan = create_verb.check(self._context, request)
        if plan.name in self._context.records:
            raise AlreadyExists(
                f"Instance {plan.name!r} already exists", field="name", remedy="choose another name or delete it first"
            )
        return self._operate(
            "Creating instance", plan.name, lambda op: create_verb.create(self._context, op, plan), wait=False
        )

    def start(self, name: str, *, stateful: bool = False) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        if stateful:
            raise _STATEFUL
        instance = self.get(name)
        if self._idle(name):
            require_stopped(self._context, instance)
        return self._steer(
            "Starting instance",
            name,
            lambda op: start_verb(self._context, op, name),
            done=lambda found: found is not None and found.id in self._context.live,
        )

    def stop(self, name: str, *, timeout: float | None = 30, force: bool = False, stateful: bool = False) -> Operation:
        """``timeout`` None waits for ever; with ``force`` nothing else is waited for long.

        Raises NotFound, WrongState, Busy.
        """
        if stateful:
            raise _STATEFUL
        instance = self.get(name)
        if self._idle(name):
            stop_verb.require_running(self._context, instance)
        return self._steer(
            "Stopping instance",
            name,
            lambda op: stop_verb.stop(self._context, op, name, timeout=timeout, force=force),
            done=lambda found: found is None or not self._context.runs(found),
            force=force,
        )

    def restart(self, name: str, *, timeout: float | None = 30, force: bool = False) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        instance = self.get(name)
        if self._idle(name):
            stop_verb.require_running(self._context, instance)
        return self._steer(
            "Restarting instance",
            name,
            lambda op: stop_verb.restart(self._context, op, name, timeout=timeout, force=force),
            force=force,
        )

    def pause(self, name: str) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        instance = self.get(name)
        if self._idle(name):
            stop_verb.require_live(self._context, instance)
        return self._steer(
            "Freezing instance",
            name,
            lambda op: stop_verb.pause(self._context, op, name),
            done=lambda found: found is not None and self.status(found) is Status.FROZEN,
        )

    def resume(self, name: str) -> Operation:
        """Raises NotFound, WrongState, Busy."""
        instance = self.get(name)
        if self._idle(name):
            stop_verb.require_live(self._context, instance)
        return self._steer(
            "Unfreezing instance",
            name,
            lambda op: stop_verb.resume(self._context, op, name),
            done=lambda found: found is not None and self.status(found) is Status.RUNNING,
        )

    def rename(self, name: str, new: str) -> Operation:
        """Raises NotFound, InvalidInput, AlreadyExists, WrongState."""
        self.get(name)
        if self._idle(name):
            rename_verb.check(self._context, name, new)
        return self._operate(
            "Renaming instance", name, lambda op: rename_verb.rename(self._context, op, name, new), also=[new]
        )

    def delete(self, name: str, *, force: bool = False) -> Operation:
        """Raises NotFound, Forbidden, WrongState while it runs unless ``force``."""
        delete_verb.check(self._context, name, force=force or not self._idle(name))

        async def work(op: Operation) -> None:
            if not (op.waited and name not in self._context.records):
                await delete_verb.delete(self._context, op, name, force=force)

        return self._operate("Deleting instance", name, work, urgent=force)

    def update(self, name: str, decide: update_verb.Decide) -> Operation:
        """Live where the key is live. ``decide`` is asked now, to refuse what is wrong, and again at its turn.

        Raises NotFound, InvalidInput, WrongState, and what ``decide`` raises.
        """
        update_verb.check(self._context, name, decide(self.get(name)))
        return self._operate("Updating instance", name, lambda op: update_verb.update(self._context, op, name, decide))

    def adopt(self, id: str, name: str = "") -> Operation:
        """Make a record again from what a volume says; what runs goes on. Raises NotFound."""
        found = unknown_verbs.find(self._context, id)
        known = name or (found.instance.name if found.instance else found.id)
        return self._operate("Adopting instance", known, lambda op: unknown_verbs.adopt(self._context, op, id, name))

    def remove_unknown(self, id: str) -> Operation:
        """Remove all of what no record speaks for. Raises NotFound."""
        found = unknown_verbs.find(self._context, id)
        return self._context.operations.start(
            "Removing an unknown instance",
            lambda op: unknown_verbs.remove(self._context, op, found.id),
            locks=[f"unknown/{found.id}"],
        )

    async def profile_changed(
        self, profile: str, record: Callable[[], Awaitable[object]], take_back: Callable[[], Awaitable[object]]
    ) -> None:
        """Record a profile's change and bring every instance that has it along: all of it or nothing.

        It waits until nothing else works on these instances.
        """
        while not await self._follow(profile, record, take_back):
            pass

    async def _follow(
        self, profile: str, record: Callable[[], Awaitable[object]], take_back: Callable[[], Awaitable[object]]
    ) -> bool:
        """False when an instance has taken the profile while this waited for its turn: then it has to wait for that."""
        users = self._users_of(profile)
        missed: set[str] = set()

        async def work(op: Operation) -> None:
            now = self._users_of(profile)
            missed.update(now - users)
            if not missed:
                await update_verb.follow(
                    self._context, op, profile, users=sorted(now), write=record, take_back=take_back
                )

        operation = self._context.operations.start(
            "Updating profile",
            work,
            locks=[f"profile/{profile}", *map(lock_of, sorted(users))],
            resources={"profiles": (f"/1.0/profiles/{profile}",)},
        )
        await self._context.operations.finish(operation)
        return not missed

    def _users_of(self, profile: str) -> set[str]:
        return {instance.name for instance in self if profile in instance.profiles}

    def exec(self, name: str, request: ExecRequest) -> Command:
        """A command that can be started. Raises NotFound, WrongState, InvalidInput."""
        return self._commands.make(self.get(name), request)

    def command(self, id: str) -> Command:
        """A command by its id. Raises NotFound."""
        return self._commands.get(id)

    def commands(self, name: str) -> Sequence[Command]:
        """Commands of an instance that run, and those remembered. Raises NotFound."""
        return self._commands.of(self.get(name))

    def console(self, name: str, request: ConsoleRequest) -> Console:
        """A console that can be attached to. Raises NotFound, WrongState, Unsupported."""
        instance = self.get(name)
        console_verb.check(self._context, instance, request)
        return Console(self._context, instance, request)

    # --- consoles, logs, files ----------------------------------------------------------------------------------

    async def console_log(self, name: str) -> bytes:
        """What the console has shown, raw."""
        instance = self.get(name)
        return await self._context.runtime(instance).console_log(instance.id)

    async def start_log(self, name: str) -> bytes:
        """Why its last start failed, and what its console has shown."""
        instance = self.get(name)
        return await evidence.failure(self._context, instance) + await self.console_log(name)

    async def clear_console_log(self, name: str) -> None:
        """Forget it."""
        instance = self.get(name)
        await self._context.runtime(instance).clear_console_log(instance.id)

    async def logs(self, name: str) -> Sequence[str]:
        """Names of the log files."""
        return await logs_verb.names(self._context, self.get(name))

    async def read_log(self, name: str, file: str) -> bytes:
        """Content of a log file. Raises NotFound."""
        return await logs_verb.read(self._context, self.get(name), file)

    async def keep_output(self, instance: Instance, file: str, data: bytes) -> str:
        """Write what a command has said; returns the log file's name."""
        return await logs_verb.keep_output(self._context, instance, file, data)

    async def delete_log(self, name: str, file: str) -> None:
        """Remove a recorded output. Raises NotFound."""
        await logs_verb.delete(self._context, self.get(name), file)

    def files(self, name: str) -> AbstractAsyncContextManager[Root]:
        """The instance's files, running or not. Raises NotFound."""
        return files_verb.root(self._context, self.get(name))

    def files_session(self, name: str) -> AbstractAsyncContextManager[FilesSession]:
        """The same for a client that stays connected. Raises NotFound, WrongState, Conflict."""
        return files_verb.session(self._context, self.get(name))

    # --- operations ---------------------------------------------------------------------------------------------

    def _idle(self, name: str) -> bool:
        """Whether nothing works on it: then what it is now is what an operation will find at its turn."""
        return self._context.operations.holder(lock_of(name)) is None

    def _steer(
        self,
        description: str,
        name: str,
        work: Callable[[Operation], Awaitable[object]],
        *,
        done: Callable[[Instance | None], bool] = lambda found: False,
        force: bool = False,
    ) -> Operation:
        """Change whether it runs. As in LXD the same verb twice is done once, and another one is refused meanwhile.

        What is done by the time its turn comes is not done again.
        """
        holder = self._context.operations.holder(lock_of(name))
        other = holder is not None and holder.gives_way and holder.description != description

        async def unless_done(op: Operation) -> None:
            if not (op.waited and done(self._context.records.find(name))):
                await work(op)

        return self._operate(description, name, unless_done, wait=not other, urgent=force, gives_way=True)

    def _operate(
        self,
        description: str,
        name: str,
        work: Callable[[Operation], Awaitable[object]],
        *,
        also: Sequence[str] = (),
        wait: bool = True,
        urgent: bool = False,
        gives_way: bool = False,
    ) -> Operation:
        return self._context.operations.start(
            description,
            work,
            locks=[lock_of(each) for each in (name, *also)],
            resources={"instances": (address(name),)},
            wait=wait,
            urgent=urgent,
            gives_way=gives_way,
        )


def _unknown_path(unknown: Unknown) -> str:
    return f"/1.0/isola/unknown/{unknown.id}"
