"""Finds subjects and workloads by their files."""

import importlib
import pkgutil
from collections.abc import Sequence
from fnmatch import fnmatchcase

from bench import peers
from bench import workloads as workload_files
from bench.subject import Subject
from bench.workload import Workload

OURS = "isola"


def subject(name: str) -> type[Subject]:
    """The class of a subject."""
    found: type[Subject] = importlib.import_module(f"bench.peers.{name}").SUBJECT
    return found


def peer_names() -> list[str]:
    """Every subject except Isola."""
    return sorted(module.name for module in pkgutil.iter_modules(peers.__path__) if module.name != OURS)


def workloads() -> dict[str, Workload]:
    """Every workload by name, in the order given by the files."""
    files = [
        importlib.import_module(f"bench.workloads.{m.name}") for m in pkgutil.iter_modules(workload_files.__path__)
    ]
    found = [kind() for file in sorted(files, key=lambda file: file.ORDER) for kind in file.WORKLOADS]
    return {workload.name: workload for workload in found}


def chosen(only: str, workloads: Sequence[str], peers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the workloads and of the peers that ``only`` names or matches; all of those of which it names none.

    Raises ValueError for what is neither.
    """
    patterns = [pattern for pattern in only.split(",") if pattern]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in (*workloads, *peers)):
            raise ValueError(f"{pattern} is neither a workload nor a peer: {', '.join((*workloads, *peers))}")

    def asked(names: Sequence[str]) -> list[str]:
        return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)] or list(names)

    return asked(workloads), asked(peers)
