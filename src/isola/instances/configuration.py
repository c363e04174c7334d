"""The configuration of an instance, including its profiles."""

from __future__ import annotations

from isola.instances.context import Context
from isola.instances.expand import merge, unheld
from isola.model.instance import Config, Devices, Instance


def expanded(context: Context, instance: Instance) -> tuple[Config, Devices]:
    """Configuration and devices including profiles, without devices that another version of it has."""
    profiles = [
        profile
        for name in instance.profiles
        if (profile := context.profiles.find(context.profile_ref(instance, name))) is not None
    ]
    config, devices = merge(profiles, instance.config, instance.devices)
    return config, unheld(devices, instance.volatile)


def environment(config: Config) -> dict[str, str]:
    """The variables of ``environment.*`` keys."""
    prefix = "environment."
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
