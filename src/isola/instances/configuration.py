"""The configuration of an instance, including its profiles."""

from __future__ import annotations

from collections.abc import Mapping

from isola.instances.context import Context
from isola.instances.expand import merge, unheld
from isola.instances.settings import SETTINGS
from isola.model.instance import EMPTY, Config, Devices, Instance


def expanded(context: Context, instance: Instance) -> tuple[Config, Devices]:
    """Configuration and devices including profiles, without devices that another version of it has."""
    profiles = [
        profile
        for name in instance.profiles
        if (profile := context.profiles.find(context.profile_ref(instance, name))) is not None
    ]
    config, devices = merge(profiles, instance.config, instance.devices)
    return config, unheld(devices, instance.volatile)


def environment(config: Config, base: Mapping[str, str] = EMPTY) -> dict[str, str]:
    """``base`` as changed by ``environment.*`` keys, and by those that name variables without a value and removed ones.

    A key without a value counts as absent, therefore it takes one of its own to name variables without a value.
    """
    prefix = "environment."
    own = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    removed = _names(config, "isola.environment.unset")
    return {
        name: value
        for name, value in {**base, **dict.fromkeys(_names(config, "isola.environment.empty"), ""), **own}.items()
        if name not in removed or name in own
    }


def _names(config: Config, key: str) -> tuple[str, ...]:
    found = SETTINGS.value(config, key)
    return found if isinstance(found, tuple) else ()
