"""``isola console``."""

from __future__ import annotations

import os
import sys

from isola.cli.commands.exec import NAME
from isola.cli.grammar import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_PREFIX = b"\x01"
TYPES = ("console", "vga")


class Detacher:
    """Watches what is typed for Ctrl-A q; Ctrl-A twice sends one Ctrl-A."""

    def __init__(self) -> None:
        self._prefixed = False

    def __call__(self, data: bytes) -> bytes | None:
        """The bytes to send to the console; None at the key sequence that detaches."""
        kept = bytearray()
        for byte in data:
            key = bytes((byte,))
            if self._prefixed:
                self._prefixed = False
                if key == b"q":
                    return None
                kept += key if key == _PREFIX else _PREFIX + key
            elif key == _PREFIX:
                self._prefixed = True
            else:
                kept += key
        return bytes(kept)


def console(context: Context) -> int:
    """Attach to the console until Ctrl-A q, or show the screen until its viewer ends."""
    name = context.args.text("NAME")
    if context.args.text("type") == "vga":
        screen = context.client.instances.screen(name, force=context.args.flag("force"))
        from isola.cli.viewing import view

        return view(screen, context.say, context.write)
    if context.args.flag("show-log"):
        sys.stdout.flush()
        from isola.client.writing import write_all

        write_all(1, context.client.instances.console_log(name))
        return 0
    from isola.cli.attached import attach
    from isola.cli.terminal import size

    session = context.client.instances.console(name, size(1), force=context.args.flag("force"))
    context.say("To detach: Ctrl-A, then q. Press Enter for a prompt.")
    try:
        detached = attach(session, 0, Detacher())
        if os.isatty(1):
            context.say("\r\nDetached" if detached else "\r\nThe console was closed")
        return 0
    finally:
        session.close()


COMMANDS = (
    Command(
        "console",
        "Attach to an instance's console, or show its screen",
        console,
        NAME,
        Option("-t --type", "The serial console, or the screen", value="TYPE", choices=TYPES, default="console"),
        Option("-f --force", "Take it over from another client"),
        Option("--show-log", "Print what the console has shown so far, and exit"),
        details="Ctrl-A, then q detaches from a serial console; Ctrl-A twice sends one Ctrl-A.\n"
        "A screen is shown by remote-viewer (package virt-viewer) or spicy; where they cannot run,\n"
        "the address of a socket for one is printed.",
        examples=(
            ("isola console web1", "log in on the console"),
            ("isola console web1 --show-log", "the boot messages"),
            ("isola console desk1 --type vga", "the screen of a virtual machine, in a window"),
        ),
    ),
)
