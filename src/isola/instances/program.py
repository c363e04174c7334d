"""What an instance runs: as its image says, as its creator asked, as its configuration says now. Pure."""

from __future__ import annotations

import dataclasses

from isola.errors import InvalidInput
from isola.instances.settings import SETTINGS
from isola.model.image import Image, layer_keys
from isola.model.instance import Config, InstanceRequest, Start
from isola.model.kernel import is_unikernel, kernel_of
from isola.model.program import Program, command_of, require_valid
from isola.model.template import Template

_EMPTY = Start(stop_signal="SIGTERM")
_LARGEST_NOTES = 1 << 20
"""Bytes: a record is read and written as a whole."""


def check_program(request: InstanceRequest) -> None:
    """The part that needs no image. Raises InvalidInput."""
    if request.program is not None:
        require_valid(request.program)
    check_notes(request.notes)


def check_notes(notes: Config) -> None:
    """Raises InvalidInput."""
    texts = [*notes, *notes.values()]
    if sum(len(text.encode("utf-8", "replace")) for text in texts) > _LARGEST_NOTES:
        raise InvalidInput(f"The notes have more than {_LARGEST_NOTES} bytes", field="notes")


def begin(image: Image | None, templates: tuple[Template, ...], request: InstanceRequest) -> Start:
    """How the instance is started, from its image and the request. Raises InvalidInput if there is no command."""
    begins = _EMPTY if image is None else _of_image(image, templates)
    begins = dataclasses.replace(begins, terminal=request.terminal, stdin=request.stdin, stdin_once=request.stdin_once)
    if request.program is not None:
        begins = _with(begins, request.program)
    if image is not None and not begins.command and begins.kernel is None:
        raise InvalidInput("No command is specified", field="program.command", remedy="name one: the image has none")
    return begins


def configured(begins: Start, config: Config) -> Start:
    """With what the expanded configuration says in ``oci.*`` keys, at its next start."""
    if command := SETTINGS.value(config, "oci.entrypoint"):
        assert isinstance(command, tuple)
        begins = dataclasses.replace(begins, entrypoint=command, command=command)
    if cwd := config.get("oci.cwd"):
        begins = dataclasses.replace(begins, cwd=cwd)
    if config.get("oci.uid") or config.get("oci.gid"):
        user, _, group = begins.user.partition(":")
        user, group = config.get("oci.uid") or user, config.get("oci.gid") or group
        begins = dataclasses.replace(begins, user=f"{user}:{group}" if group else user)
    return begins


def _of_image(image: Image, templates: tuple[Template, ...]) -> Start:
    config = image.config
    return Start(
        system=config.system,
        command=config.command,
        entrypoint=config.entrypoint,
        environment=dict(config.environment),
        cwd=config.cwd,
        user=config.user,
        stop_signal=config.stop_signal,
        health_check=config.health_check,
        layers=layer_keys(image.layers),
        blobs=image.layers,
        templates=templates,
        kernel=kernel_of(config.labels) if is_unikernel(config.labels) else None,
    )


def _with(begins: Start, program: Program) -> Start:
    """A program other than the init of a distribution is one program, not a system."""
    entrypoint, command = command_of(program, begins.entrypoint, begins.command)
    system = begins.system and command == begins.command
    halts = begins.stop_signal if system == begins.system else "SIGTERM"
    return dataclasses.replace(
        begins,
        system=system,
        entrypoint=entrypoint,
        command=command,
        cwd=program.cwd or begins.cwd,
        user=program.user or begins.user,
        stop_signal=program.stop_signal or halts,
        stop_timeout=program.stop_timeout,
        given=program,
    )
