"""The configuration of an instance, including its profiles."""

from __future__ import annotations

from isola.instances.context import Context
from isola.instances.expand import merge
from isola.model.instance import Config, Devices, Instance


def expanded(context: Context, instance: Instance) -> tuple[Config, Devices]:
    """Configuration and devices including profiles."""
    profiles = [
        profile
        for name in instance.profiles
        if (profile := context.profiles.find(context.profile_ref(instance, name))) is not None
    ]
    return merge(profiles, instance.config, instance.devices)


def environment(config: Config) -> dict[str, str]:
    """The variables of ``environment.*`` keys."""
    prefix = "environment."
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
