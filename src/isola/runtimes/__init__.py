"""Runtimes: run an instance on this host."""

from isola.runtimes.capabilities import Capability, Lack, Machine, RuntimeCapabilities
from isola.runtimes.driver import CONSOLE_LOG, RUNS, Held, Restore, Runtime
from isola.runtimes.guest import Execution, Guest, Listing, Reporting, WithDisks
from isola.runtimes.log_lines import Lines, LogBlock
from isola.runtimes.output import Attachment, Channel, LogLine
from isola.runtimes.runtimes import Runtimes
from isola.runtimes.spec import DeviceNode, ExecSpec, Firmware, Log, Mount, Root, RootKind, RunSpec, Shareable, TapNic

__all__ = [
    "CONSOLE_LOG",
    "RUNS",
    "Attachment",
    "Capability",
    "Channel",
    "DeviceNode",
    "ExecSpec",
    "Execution",
    "Firmware",
    "Guest",
    "Held",
    "Lack",
    "Lines",
    "Listing",
    "Log",
    "LogBlock",
    "LogLine",
    "Machine",
    "Mount",
    "Reporting",
    "Restore",
    "Root",
    "RootKind",
    "RunSpec",
    "Runtime",
    "RuntimeCapabilities",
    "Runtimes",
    "Shareable",
    "TapNic",
    "WithDisks",
]
