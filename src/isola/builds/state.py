"""The state of a stage between two instructions: configuration, build arguments, history. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce

import orjson

from isola.images.oci_config import History, OciConfig
from isola.model.image import ImageConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = frozenset(
    name
    for each in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (each, each.lower())
)
"""Build arguments that need no ARG, and do not count for the cache unless they have one."""
_LONGEST_HISTORY = 4096


@dataclass(frozen=True, slots=True)
class State:
    """Nothing in it is changed; each instruction makes another one."""

    config: ImageConfig
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build arguments that are declared, and have a value."""
    history: tuple[History, ...] = ()
    author: str = ""
    has_command: bool = False
    """CMD was in this stage: an ENTRYPOINT leaves it."""
    past: str = ""
    """A digest of the history, so that a step does not have to read all of it."""
    told_characters: int = 0
    """Of the history."""

    @property
    def variables(self) -> Mapping[str, str]:
        """What instructions can refer to: variables of the image override arguments."""
        return {**self.arguments, **self.config.environment}

    @property
    def shell(self) -> tuple[str, ...]:
        """The program for commands that are one text."""
        return self.config.shell or DEFAULT_SHELL

    def noted(self, created_by: str, now: datetime, *, empty: bool) -> State:
        """With one more entry of the history."""
        entry = History(created_by[:_LONGEST_HISTORY], now, empty_layer=empty)
        characters = self.told_characters + len(entry.created_by)
        return replace(self, history=(*self.history, entry), past=_after(self.past, entry), told_characters=characters)


def _after(past: str, entry: History) -> str:
    return hashlib.sha256(past.encode() + orjson.dumps(entry, option=orjson.OPT_SERIALIZE_DATACLASS)).hexdigest()


def empty() -> State:
    """What ``FROM scratch`` begins with."""
    config = ImageConfig(command=(), environment={"PATH": DEFAULT_PATH})
    return State(config)


def of_image(config: OciConfig) -> State:
    """What ``FROM image`` begins with. Its triggers have been taken by the caller."""
    environment = dict(config.run.environment)
    environment.setdefault("PATH", DEFAULT_PATH)
    run = replace(config.run, environment=environment, on_build=())
    past = reduce(_after, config.history, "")
    characters = sum(len(entry.created_by) for entry in config.history)
    return State(run, history=config.history, author=config.author, past=past, told_characters=characters)


def of_stage(state: State) -> State:
    """What ``FROM stage`` begins with: arguments are inherited."""
    return replace(state, config=replace(state.config, on_build=()), has_command=False)
