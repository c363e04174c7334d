"""A daemon that goes away under guests in QEMU."""

from __future__ import annotations

from isola.runtimes import Guest
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.runtime import QemuRuntime


def session_ends(guest: Guest) -> None:
    """As if the daemon had been killed."""
    assert isinstance(guest, VmGuest)
    guest.session.leave()
    QemuRuntime.forget(guest.session)
