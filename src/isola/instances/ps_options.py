"""Options of ``ps`` that it does not take together with a list of processes: which of them ask for no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_NAMES = "[a-z_%]{1,20}"
_COLUMNS = re.compile(f"{_NAMES}(,{_NAMES})*", re.ASCII)
_KEYS = re.compile(f"[-+]?{_NAMES}(,[-+]?{_NAMES})*", re.ASCII)
_TREE = ("--forest", "-H")
_CHOOSING = "eAad"
_FORMATS = "fFljyLw"
_DASHED = re.compile(f"-[{_CHOOSING}{_FORMATS}]+")
_BSD_CHOOSING = "ax"
_BSD_FORMATS = "ufljsvw"
_BSD = re.compile(f"[{_BSD_CHOOSING}{_BSD_FORMATS}]+")


def without_choice(arguments: Sequence[str]) -> tuple[str, ...] | None:
    """Those that say how processes are shown and sorted, without those that choose them; None if one is not known.

    Columns cannot be given other titles, so that the column ``PID`` is what it says.
    """
    try:
        return tuple(_kept(iter(arguments)))
    except (ValueError, StopIteration):
        return None


def _kept(arguments: Iterator[str]) -> list[str]:
    kept: list[str] = []
    for argument in arguments:
        name, equal, value = argument.partition("=")
        if argument in _TREE:
            kept.append(argument)
        elif name in ("--sort", "k"):
            kept.append(f"--sort={_matching(_KEYS, value if equal else next(arguments))}")
        elif argument in ("-o", "o"):
            kept += ["-o", _matching(_COLUMNS, next(arguments))]
        elif argument.startswith("-"):
            letters = "".join(each for each in _matching(_DASHED, argument)[1:] if each not in _CHOOSING)
            kept += [f"-{letters}"] if letters else []
        else:
            letters = "".join(each for each in _matching(_BSD, argument) if each not in _BSD_CHOOSING)
            kept += [letters] if letters else []
    return kept


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text
