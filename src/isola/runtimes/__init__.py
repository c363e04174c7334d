"""Runtimes: run an instance on this host."""

from isola.runtimes.capabilities import Capability, Lack, RuntimeCapabilities
from isola.runtimes.driver import RUNS, Held, Runtime
from isola.runtimes.guest import Execution, Guest
from isola.runtimes.output import Attachment, Channel, LogLine
from isola.runtimes.runtimes import Runtimes
from isola.runtimes.spec import DeviceNode, ExecSpec, Mount, Root, RootKind, RunSpec, Shareable, TapNic

__all__ = [
    "RUNS",
    "Attachment",
    "Capability",
    "Channel",
    "DeviceNode",
    "ExecSpec",
    "Execution",
    "Guest",
    "Held",
    "Lack",
    "LogLine",
    "Mount",
    "Root",
    "RootKind",
    "RunSpec",
    "Runtime",
    "RuntimeCapabilities",
    "Runtimes",
    "Shareable",
    "TapNic",
]
