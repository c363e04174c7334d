"""A TPM 2.0 of a virtual machine, emulated; its state is kept in the root volume and its snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from isola.devices import values
from isola.devices.driver import DeviceDriver, Plug, Target
from isola.errors import Unsupported
from isola.runtimes import Capability
from isola.settings import Setting, Settings

_INSIDE = "Accepted for the sake of clients, without effect: the guest's kernel names its TPM itself."


class Tpm(DeviceDriver):
    """There from the start of the machine on; the driver of the runtime makes it."""

    example: ClassVar[Mapping[str, str]] = {}
    settings = Settings(
        "tpm", Setting("path", values.path_inside, _INSIDE), Setting("pathrm", values.path_inside, _INSIDE)
    )

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """A machine has one at most."""
        return "the place of the TPM"

    def _require(self, plug: Plug, target: Target) -> None:
        target.capabilities.require(Capability.FIRMWARE)
        plan = None if target.running is None else target.running.plan
        if plan is not None and (plan.firmware is None or not plan.firmware.tpm):
            raise Unsupported("A TPM is not added to a running machine", remedy="stop the instance first")

    async def _attached(self, plug: Plug, target: Target) -> bool:
        """Since the start."""
        return True


DRIVER = Tpm
