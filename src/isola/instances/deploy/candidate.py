"""The version of an instance that is tried out: how it is made, and removed again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from isola.devices.checks import driver_of, without_type
from isola.errors import InvalidInput
from isola.instances import create as create_verb
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.deploy.parts import Attempt, Names, is_next
from isola.instances.namespaces import NETWORK
from isola.instances.remove import remove
from isola.instances.run_values import HOST, network_mode
from isola.instances.stop import Manner, halt
from isola.instances.volatile import HELD, NEXT, ROLE, SERVES, own_keys
from isola.model.deployment import Strategy, Version
from isola.model.instance import Config, Instance, InstanceRequest
from isola.model.reference import Ref
from isola.operations import Operation


def request_of(
    context: Context, serving: Instance | None, names: Names, version: Version, strategy: Strategy
) -> InstanceRequest:
    """What is to be created: as the version that serves, with the changes. Raises InvalidInput."""
    if serving is None:
        return _first(names.next, version)
    wanted = dataclasses.replace(
        serving,
        config=_set({**serving.config, **version.config}),
        devices={name: each for name, each in {**serving.devices, **version.devices}.items() if each},
        profiles=serving.profiles if version.profiles is None else version.profiles,
        volatile={},
    )
    held = held_back(context, serving, wanted, strategy)[1]
    return InstanceRequest(
        name=names.next.name,
        project=serving.project,
        image=version.image,
        isolation=version.isolation or ("" if version.runtime else serving.isolation),
        runtime=version.runtime or (None if version.isolation else serving.runtime),
        description=serving.description if version.description is None else version.description,
        config=wanted.config,
        devices=wanted.devices,
        profiles=wanted.profiles,
        ephemeral=serving.ephemeral,
        terminal=serving.start.terminal,
        stdin=serving.start.stdin,
        stdin_once=serving.start.stdin_once,
        program=version.program or serving.start.given,
        marks=marks_of(names.serving.name, held),
    )


def marks_of(name: str, held: frozenset[str]) -> dict[str, str]:
    """The facts in the record of a version that is tried out."""
    return {ROLE: NEXT, SERVES: name, HELD: ",".join(sorted(held))}


def held_back(
    context: Context, serving: Instance, other: Instance, strategy: Strategy
) -> tuple[frozenset[str], frozenset[str]]:
    """Devices that the one that serves, and that the other, cannot have while both exist.

    Raises InvalidInput if they cannot run side by side.
    """
    both = [_exclusive(context, serving), _exclusive(context, other)]
    shared = both[0].keys() & both[1].keys()
    if shared and strategy is Strategy.BESIDE:
        raise InvalidInput(
            f"Two versions of {serving.called!r} cannot run side by side",
            evidence=f"both would have {', '.join(sorted(shared))}",
            field="strategy",
            remedy="use the strategy stop-first, which stops the old one before the new one is started",
        )
    kept = [frozenset(name for reason in shared if (name := each[reason])) for each in both]
    return kept[0] | _passed_on(context, serving), kept[1] | _passed_on(context, other)


def _exclusive(context: Context, instance: Instance) -> dict[str, str]:
    """What only one running instance can have -> the device's name; empty for a part of its configuration."""
    config, devices = _all_of(context, instance)
    found = {}
    for name, device in devices.items():
        if reason := driver_of(device["type"]).single(without_type(device)):
            found[reason] = name
    if network_mode(config.get(NETWORK) or "private")[0] == HOST:
        found["the host's network"] = ""
    return found


def _passed_on(context: Context, instance: Instance) -> frozenset[str]:
    _, devices = _all_of(context, instance)
    return frozenset(
        name for name, device in devices.items() if driver_of(device["type"]).passed_on(without_type(device))
    )


def _all_of(context: Context, instance: Instance) -> tuple[Config, Mapping[str, Config]]:
    """With the devices that it has in its configuration alone."""
    return expanded(context, dataclasses.replace(instance, volatile={}))


def _first(ref: Ref, version: Version) -> InstanceRequest:
    return InstanceRequest(
        name=ref.name,
        project=ref.project,
        image=version.image,
        isolation=version.isolation,
        runtime=version.runtime or None,
        description=version.description or "",
        config=_set(version.config),
        devices={name: each for name, each in version.devices.items() if each},
        profiles=version.profiles,
        program=version.program,
        marks=marks_of(ref.name, frozenset()),
    )


def _set(config: Config) -> dict[str, str]:
    return {key: value for key, value in own_keys(config).items() if value}


async def make(attempt: Attempt, request: InstanceRequest) -> None:
    """Create it."""
    plan = create_verb.check(attempt.context, request)
    await attempt.step(plan.ref, "Creating a version", lambda op: create_verb.create(attempt.context, op, plan))


async def discard(attempt: Attempt) -> None:
    """Undo of ``make``; no effect if it does not exist. Can be repeated."""
    ref = attempt.names.next
    if is_next(attempt.context.records.find(ref)):
        await attempt.step(ref, "Removing a version", lambda op: remove_now(attempt.context, op, ref))


async def remove_now(context: Context, op: Operation, ref: Ref) -> None:
    """Remove a version, running or not."""
    instance = context.records.get(ref)
    runs = context.runs(instance) and not instance.deleting
    if runs:
        await halt(context, op, ref, Manner(force=True))
        op.reopen()
    await remove(context, op, context.records.get(ref), clean=runs)
