"""Paths of a guest's files. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isola.runtimes.oci.layout import Layout


@dataclass(frozen=True, slots=True)
class VmLayout(Layout):
    """Those that the monitor of containers knows, and those of a virtual machine."""

    @classmethod
    def beside(cls, layout: Layout) -> VmLayout:
        """In the same places."""
        return cls(layout.id, layout.run, layout.logs)

    @property
    def job(self) -> Path:
        """What is started, see ``host.hypervisor``."""
        return self.run / "job.json"

    def server_pid(self, name: str) -> Path:
        """Written by the launcher, when the process exists."""
        return self.run / f"{name}.pid"

    @property
    def messages(self) -> Path:
        """A FIFO with what QEMU and its servers have written to standard error."""
        return self.run / "messages"

    @property
    def shape(self) -> Path:
        """What the machine has, see ``saving``."""
        return self.run / "machine.json"

    @property
    def added(self) -> Path:
        """Disks that were added while it runs, in JSON."""
        return self.run / "disks.json"

    @property
    def seed(self) -> Path:
        """A disk for the agent and cloud-init."""
        return self.run / "seed.img"

    @property
    def ended(self) -> Path:
        """How the guest ended, in JSON."""
        return self.run / "ended.json"

    def socket(self, name: str) -> Path:
        """On which QEMU listens."""
        return self.run / name
