"""Whether an instance that has ended is started again by itself (``isola.restart``). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isola.model.instance import Config, Desired, Instance
from isola.settings import Setting, Settings, boolean

KEY, AUTORESTART = "isola.restart", "boot.autorestart"
STEADY = 10.0
"""Seconds after which a run resets the pauses."""
_FIRST, _LONGEST = 0.1, 60.0
_MOST_TRIES = 1_000_000


class When(StrEnum):
    """After which ends."""

    NO = "no"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"
    ON_FAILURE = "on-failure"


@dataclass(frozen=True, slots=True)
class Policy:
    """``most``: how many times in a row after a failure; 0: any number."""

    when: When = When.NO
    most: int = 0

    def wants(self, status: int, restarts: int) -> bool:
        """Whether a run that ended by itself with this status, after so many restarts, is followed by another."""
        if self.when is When.ON_FAILURE:
            return status != 0 and (not self.most or restarts < self.most)
        return self.when is not When.NO

    def after_boot(self, desired: Desired) -> bool:
        """Whether an instance is started after a boot of the host."""
        return self.when is When.ALWAYS or (self.when is not When.NO and desired is Desired.RUNNING)


def parse(text: str) -> Policy:
    """``no``, ``always``, ``unless-stopped``, ``on-failure`` or ``on-failure:5``. Raises ValueError."""
    name, colon, most = text.partition(":")
    policy = Policy(When(name))
    if not colon:
        return policy
    if policy.when is not When.ON_FAILURE or not (most.isascii() and most.isdigit() and len(most) < 8):
        raise ValueError("only on-failure has a number")
    return Policy(policy.when, min(int(most), _MOST_TRIES))


RESTART_SETTINGS = Settings(
    "instance",
    Setting(
        KEY,
        parse,
        "Start it again when it ends: `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:5`, after a pause"
        " that grows from 0.1 seconds to a minute. `always` also starts it with the daemon if it was stopped. Where it"
        " is set, it decides about boots of the host, too, unless `boot.autostart` does.",
        live=True,
        expects="no, always, unless-stopped, on-failure or on-failure:NUMBER",
    ),
    Setting(
        AUTORESTART,
        boolean,
        f"As `{KEY}=unless-stopped`, where that is not set.",
        "false",
        live=True,
    ),
)


def policy_of(config: Config) -> Policy | None:
    """None: not set."""
    found = RESTART_SETTINGS.value(config, KEY)
    if isinstance(found, Policy):
        return found
    return Policy(When.UNLESS_STOPPED) if RESTART_SETTINGS.value(config, AUTORESTART) else None


def pause_after(ends: int) -> float:
    """Seconds to wait after this number of ends in quick succession: each doubles the pause."""
    return min(_FIRST * 2.0 ** min(max(ends - 1, 0), 10), _LONGEST)


def restarts_of(instance: Instance) -> int:
    """How many times in a row its policy has started it so far."""
    return instance.last_run.restarts if instance.last_run is not None else 0
