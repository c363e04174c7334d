"""The pools, custom volumes, managed networks and images that devices use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from isola.devices.image_sources import IMAGE
from isola.devices.nics import NETWORK, network_name
from isola.devices.volume_sources import volume_name
from isola.model.device import DeviceState
from isola.model.reference import Entity, Kind, Ref
from isola.model.volume import VolumeRef

Home = Callable[[str, Kind], str]
"""(project, kind) -> the project that contains the resources of this kind which the project uses."""


def named_by(home: Home, project: str, devices: Mapping[str, Mapping[str, str]]) -> Iterator[Entity]:
    """Of configured devices of an instance or a profile of this project."""
    for device in devices.values():
        yield from _of_config(home, project, device.get("type", ""), device)


def had_by(home: Home, project: str, states: Mapping[str, DeviceState]) -> Iterator[Entity]:
    """Of the recorded devices of an instance, including those from its profiles."""
    for state in states.values():
        yield from _of_config(home, project, state.kind, state.config)
        if NETWORK in state.facts:
            yield _network(home, project, state.facts[NETWORK])
        if IMAGE in state.facts:
            yield Entity.of(Kind.IMAGE, Ref(home(project, Kind.IMAGE), state.facts[IMAGE]))


def _of_config(home: Home, project: str, kind: str, config: Mapping[str, str]) -> Iterator[Entity]:
    if pool := config.get("pool"):
        yield Entity.of_host(Kind.STORAGE_POOL, pool)
        if source := volume_name(config):
            yield VolumeRef.custom(pool, source, home(project, Kind.STORAGE_VOLUME)).entity
    if kind == "nic" and (network := network_name(config)):
        yield _network(home, project, network)


def _network(home: Home, project: str, name: str) -> Entity:
    return Entity.of(Kind.NETWORK, Ref(home(project, Kind.NETWORK), name))
