"""System call filters that a user gives, in the format of container engines, as an OCI configuration has them. Pure.

The format is that of Docker's ``--security-opt seccomp=FILE``: rules with ``includes`` and ``excludes`` that depend on
the capabilities, the architecture and the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from isola.errors import InvalidInput

LARGEST = 1 << 20
_MOST_RULES, _MOST_NAMES = 2048, 4096
_ACTIONS = frozenset(
    f"SCMP_ACT_{name}" for name in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG")
)
_OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_DOCKER_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "x86"}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def check(text: str) -> None:
    """Raises ValueError that says what is wrong."""
    if len(text) > LARGEST:
        raise ValueError(f"a profile of up to {LARGEST} bytes is expected")
    parse(text, capabilities=(), architecture="x86_64", release=(5, 0))


def of_instance(
    text: str, *, capabilities: Collection[str], architecture: str, release: tuple[int, int]
) -> dict[str, Any]:
    """The ``linux.seccomp`` entry for an instance with these ``CAP_`` names. Raises InvalidInput."""
    try:
        return parse(text, capabilities=capabilities, architecture=architecture, release=release)
    except ValueError as error:
        raise InvalidInput("The system call filter is invalid", evidence=str(error), field="config") from error


def parse(text: str, *, capabilities: Collection[str], architecture: str, release: tuple[int, int]) -> dict[str, Any]:
    """The same; raises ValueError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("a seccomp profile in JSON is expected") from error
    if not isinstance(found, dict):
        raise ValueError("a seccomp profile, a JSON object, is expected")
    profile: dict[str, Any] = {"defaultAction": _action(found.get("defaultAction"), "defaultAction")}
    if found.get("defaultErrnoRet") is not None:
        profile["defaultErrnoRet"] = _number(found["defaultErrnoRet"], "defaultErrnoRet", 4095)
    profile["architectures"] = _architectures(found, architecture)
    rules = _list(found.get("syscalls") or [], "syscalls", _MOST_RULES)
    where = (frozenset(capabilities), _DOCKER_NAMES.get(architecture, architecture), release)
    profile["syscalls"] = [_rule(rule) for rule in rules if _applies(_object(rule, "syscalls"), *where)]
    return profile


def _architectures(found: Mapping[str, Any], architecture: str) -> list[str]:
    names = _texts(found.get("architectures") or [], "architectures")
    native = _NATIVE.get(architecture, "")
    for entry in _list(found.get("archMap") or [], "archMap", 64):
        described = _object(entry, "archMap")
        if described.get("architecture") == native and native:
            names += [native, *_texts(described.get("subArchitectures") or [], "archMap.subArchitectures")]
    if any(not name.startswith("SCMP_ARCH_") for name in names):
        raise ValueError("architectures such as SCMP_ARCH_X86_64 are expected")
    return list(dict.fromkeys(names))


def _applies(rule: Mapping[str, Any], capabilities: Collection[str], machine: str, release: tuple[int, int]) -> bool:
    wanted, unwanted = _object(rule.get("includes") or {}, "includes"), _object(rule.get("excludes") or {}, "excludes")
    arches, caps = _texts(wanted.get("arches") or [], "arches"), _texts(wanted.get("caps") or [], "caps")
    if (arches and machine not in arches) or not set(caps) <= set(capabilities):
        return False
    if (least := wanted.get("minKernel")) and release < _release(least):
        return False
    if machine in _texts(unwanted.get("arches") or [], "arches"):
        return False
    if set(_texts(unwanted.get("caps") or [], "caps")) & set(capabilities):
        return False
    return not ((least := unwanted.get("minKernel")) and release >= _release(least))


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = _texts(rule.get("names") or [], "names") or _texts([rule["name"]] if rule.get("name") else [], "name")
    if not names or len(names) > _MOST_NAMES:
        raise ValueError("a rule needs names of system calls")
    made: dict[str, Any] = {"names": names, "action": _action(rule.get("action"), "action")}
    if rule.get("errnoRet") is not None:
        made["errnoRet"] = _number(rule["errnoRet"], "errnoRet", 4095)
    if arguments := list(_arguments(rule)):
        made["args"] = arguments
    return made


def _arguments(rule: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for each in _list(rule.get("args") or [], "args", 64):
        argument = _object(each, "args")
        operator = argument.get("op")
        if not isinstance(operator, str) or operator not in _OPERATORS:
            raise ValueError("an argument needs an op such as SCMP_CMP_EQ")
        yield {
            "index": _number(argument.get("index", 0), "index", 5),
            "value": _number(argument.get("value", 0), "value", 2**64 - 1),
            "valueTwo": _number(argument.get("valueTwo", 0), "valueTwo", 2**64 - 1),
            "op": operator,
        }


def _action(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in _ACTIONS:
        raise ValueError(f"{where} must be an action such as SCMP_ACT_ERRNO")
    return value


def _release(text: object) -> tuple[int, int]:
    major, _, minor = str(text).partition(".")
    if not (major.isdigit() and minor.isdigit() and len(major + minor) < 9):
        raise ValueError("minKernel must be a version such as 4.8")
    return int(major), int(minor)


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object")
    return value


def _list(value: object, where: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{where} must be a list of up to {most} entries")
    return value


def _texts(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or any(not isinstance(each, str) or len(each) > 100 for each in value):
        raise ValueError(f"{where} must be a list of names")
    return list(value)


def _number(value: object, where: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{where} must be a whole number up to {most}")
    return value
