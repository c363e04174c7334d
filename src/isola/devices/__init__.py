"""Devices of instances: one driver for each type, found by its file name in ``drivers/``."""

from isola.devices.checks import check, kinds, settings_of
from isola.devices.driver import DeviceDriver, Parts, Plug, Stage, Target

__all__ = ["DeviceDriver", "Parts", "Plug", "Stage", "Target", "check", "kinds", "settings_of"]
