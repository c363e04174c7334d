"""What a stage does next, with all variables filled in. Pure values; their ``key`` says when results are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from isola.builds.dockerfile.mounts import Mount
from isola.model.git_address import GitAddress


@dataclass(frozen=True, slots=True)
class Nothing:
    """Only the configuration changes."""


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """WORKDIR: the directory exists from then on."""

    path: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class RunProgram:
    """RUN, in a container over the layers below."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    secret_names: frozenset[str] = frozenset()
    """Variables that do not count for the cache: proxies."""
    cwd: str = "/"
    user: str = "0"
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    insecure: bool = False
    script: tuple[str, str] | None = None
    """Name and content of a here-document that is a program of its own."""


@dataclass(frozen=True, slots=True)
class CopyFiles:
    """COPY and ADD: a layer is written without a container."""

    sources: tuple[str, ...]
    target: str
    """Absolute; ends with a slash if it has to be a directory."""
    files: tuple[tuple[str, str], ...] = ()
    """Names and contents of here-documents."""
    source_stage: str = ""
    owner: str = ""
    mode: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    add: bool = False
    unpack: bool | None = None
    checksum: str = ""
    addresses: tuple[str, ...] = ()
    """Sources of ADD that are fetched by HTTP."""
    repositories: tuple[GitAddress, ...] = ()
    keep_git_dir: bool = False


Step = Nothing | MakeDirectory | RunProgram | CopyFiles


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step uses beside the files of its own stage, as digests."""

    below: tuple[str, ...]
    """Diff ids of the layers that it changes."""
    platform: str
    sources: tuple[str, ...] = field(default=())
    """Of copied files and of mounted ones."""
    around: tuple[str, ...] = ()
    """What a program depends on besides files: where it runs, and who answers in its network."""


def key(step: Step, inputs: Inputs) -> str:
    """The name of the step's result in the cache. What is copied with ``--link`` does not depend on what is below."""
    if isinstance(step, CopyFiles) and step.link:
        inputs = Inputs((), inputs.platform, inputs.sources)
    facts: dict[str, object] = {"version": 2, "kind": type(step).__name__, "inputs": inputs}
    if isinstance(step, RunProgram):
        facts["environment"] = {
            name: value for name, value in step.environment.items() if name not in step.secret_names
        }
        facts["step"] = [
            step.argv, step.cwd, step.user, step.mounts, step.network, step.insecure, step.script,
        ]  # fmt: skip
    else:
        facts["step"] = step
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_DATACLASS)).hexdigest()
