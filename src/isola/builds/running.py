"""RUN: a program in a container of its own over the layers below, whose changes are the new layer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from isola.builds.applying import SCRIPTS
from isola.builds.copying import Find
from isola.builds.mounting import Device, given
from isola.builds.parts import Job, Result
from isola.builds.roots import driver_of, unpacked, written
from isola.builds.steps import RunProgram
from isola.errors import IsolaError, NotFound, ProgramFailed, Unsupported
from isola.host.archive.archives import LayerReport
from isola.host.cancellation import finish
from isola.instances.commit import MOUNT_POINTS
from isola.instances.create import check
from isola.model.build import NOTE, BuildEvent, BuildEventKind, Furnished
from isola.model.image import Image, ImageConfig, Layer
from isola.model.instance import InstanceRequest
from isola.model.reference import Ref
from isola.runtimes import Attachment, Channel

_SHORT_ID = 12
"""Digits of an instance's id in messages."""


async def run_program(job: Job, result: Result, step: RunProgram, stage: int, find: Find) -> Layer | None:
    """Raises ProgramFailed with the program's exit status."""
    if step.insecure:
        raise Unsupported("RUN --security=insecure is not allowed", field="dockerfile")
    await unpacked(job, result)
    async with given(job, step, stage, find) as (devices, environment):
        ref = Ref(job.request.project, f"build-{job.parts.context.host.clock.token(6)}")
        instances, id = job.parts.instances, ""
        job.parts.context.furnished[ref] = Furnished(environment, devices)
        try:
            request = _request(job, result, step, ref.name, devices)
            await job.parts.context.operations.finish(instances.create(request))
            id = job.parts.context.records.get(ref).id[:_SHORT_ID]
            job.tell(BuildEvent(BuildEventKind.RUNNING, stage, id))
            await _ran(job, ref, step, stage)
            return await written(job, partial(_packed, job, ref, [*devices.values()]))
        finally:
            del job.parts.context.furnished[ref]
            await finish(_removed(job, ref, stage, id or ref.name))


def _request(job: Job, result: Result, step: RunProgram, name: str, devices: Mapping[str, Device]) -> InstanceRequest:
    clock = job.parts.context.host.clock
    config = ImageConfig(
        command=step.argv,
        entrypoint=step.argv,
        environment=step.environment,
        cwd=step.cwd,
        user=step.user,
    )
    now = clock.now()
    kernel = job.parts.context.host.system.kernel().architecture
    image = Image("", "", 0, kernel, now, now, result.layers, config, templates=())
    request = InstanceRequest(
        name=name,
        made_of=image,
        config=dict(job.request.config),
        devices=dict(devices),
        profiles=("default",),
        project=job.request.project,
        terminal=False,
        notes={NOTE: job.op.id},
        description=f"Runs one instruction of a build: {' '.join(step.argv)[:200]}",
    )
    return replace(request, devices={**_networks(job, request, step), **request.devices})


def _networks(job: Job, request: InstanceRequest, step: RunProgram) -> Mapping[str, Device]:
    """In place of the NICs of the profile."""
    wanted = step.network if step.network != "default" else job.request.network
    if wanted in ("", "default", "bridge"):
        return {}
    plan = check(job.parts.context, request)
    without: dict[str, Device] = {
        name: {"type": "none"} for name, device in plan.devices.items() if device.get("type") == "nic"
    }
    if wanted == "none":
        return without
    if wanted == "host":
        raise Unsupported("The network of the host is not allowed in builds", field="networkmode")
    return {**without, "eth0": {"type": "nic", "network": wanted}}


async def _ran(job: Job, ref: Ref, step: RunProgram, stage: int) -> None:
    instances, operations = job.parts.instances, job.parts.context.operations
    attachment = await instances.attach(ref, ahead=True)
    reading = asyncio.ensure_future(_read(job, attachment, stage))
    try:
        await operations.finish(instances.start(ref))
        status = await instances.wait(ref)
        await reading
    finally:
        reading.cancel()
        attachment.close()
    if status:
        shown = " ".join(step.argv)[:1000]
        raise ProgramFailed(f"The command '{shown}' returned a non-zero code: {status}", status, command=shown)


async def _read(job: Job, attachment: Attachment, stage: int) -> None:
    while (block := await attachment.read()) is not None:
        channel, data = block
        job.tell(BuildEvent(BuildEventKind.OUTPUT, stage, data=data, stderr=channel is Channel.STDERR))


async def _packed(job: Job, ref: Ref, devices: list[Device], file: Path, compression: str) -> LayerReport:
    context = job.parts.context
    instance = context.records.get(ref)
    targets = [device["path"].strip("/") for device in devices if "path" in device]
    return await driver_of(job).pack_layer(
        context.volume(instance),
        file,
        compression=compression,
        newest=job.epoch,
        leave_out=[*MOUNT_POINTS, SCRIPTS.strip("/"), *targets],
    )


async def _removed(job: Job, ref: Ref, stage: int, id: str) -> None:
    try:
        operation = job.parts.instances.delete(ref, force=True)
    except NotFound:
        return
    try:
        await job.parts.context.operations.finish(operation)
    except IsolaError as error:
        job.tell(BuildEvent(BuildEventKind.WARNING, stage, f"The container {ref.name} is left: {error}"))
        return
    job.tell(BuildEvent(BuildEventKind.REMOVED, stage, id))
