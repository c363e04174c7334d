"""Runtimes: run an instance on this host."""

from isola.runtimes.driver import ExecSpec, Execution, Running, RunSpec, Runtime, RuntimeCapabilities
from isola.runtimes.runtimes import Runtimes

__all__ = ["ExecSpec", "Execution", "RunSpec", "Running", "Runtime", "RuntimeCapabilities", "Runtimes"]
