"""COPY and ADD."""

from __future__ import annotations

import re

from isola.builds.dockerfile.flags import Flags
from isola.builds.dockerfile.instructions import Copy, Instruction
from isola.builds.dockerfile.parts import Parts
from isola.builds.dockerfile.words import Heredoc, heredoc_of

MAX_SOURCES = 1000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


def copy(parts: Parts) -> Instruction:
    """Raises ValueError."""
    add = parts.name == "ADD"
    flags = _flags(parts, add=add)
    sources, target = _arguments(parts)
    heredocs = tuple(_heredoc(parts, word) for word in sources if heredoc_of(word))
    checksum = flags.text("checksum")
    if checksum and "$" not in checksum:
        check_checksum(checksum, commit=_COMMIT.fullmatch(checksum) is not None)
    if "$" in flags.text("from").removesuffix("$"):
        raise ValueError(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
            "scope as a workaround"
        )
    return Copy(
        sources=tuple(word for word in sources if not heredoc_of(word)),
        heredocs=heredocs,
        target=target,
        add=add,
        source_stage=flags.text("from"),
        owner=flags.text("chown"),
        mode=flags.text("chmod"),
        link=flags.on("link"),
        parents=flags.on("parents"),
        excludes=flags.texts("exclude"),
        checksum=checksum,
        unpack=flags.on("unpack") if flags.given("unpack") else None,
        keep_git_dir=flags.on("keep-git-dir"),
        **parts.place,
    )


def check_checksum(text: str, *, commit: bool) -> None:
    """``commit``: the first digits of a commit's id, for Git repositories. Raises ValueError."""
    if not (_COMMIT if commit else _DIGEST).fullmatch(text):
        raise ValueError(f"invalid checksum digest format: {text[:80]}")


def _flags(parts: Parts, *, add: bool) -> Flags:
    if not add:
        return Flags(parts.flags, texts="from chown chmod", booleans="link parents", lists="exclude")
    return Flags(parts.flags, texts="chown chmod checksum", booleans="link keep-git-dir unpack", lists="exclude")


def _arguments(parts: Parts) -> tuple[tuple[str, ...], str]:
    found = parts.listed()
    if not found:
        raise ValueError(f"{parts.name} requires at least two arguments, but only zero were provided")
    if len(found) == 1:
        raise ValueError(
            f"{parts.name} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    if len(found) - 1 > MAX_SOURCES:
        raise ValueError(f"{parts.name} has more than {MAX_SOURCES} sources")
    if heredoc_of(found[-1]):
        raise ValueError(f"{parts.name} cannot accept a heredoc as a destination")
    return found[:-1], found[-1]


def _heredoc(parts: Parts, word: str) -> Heredoc:
    """With its content; in the JSON form, none has been read."""
    begun = heredoc_of(word)
    for heredoc in parts.line.heredocs:
        if begun and heredoc.name == begun.name:
            return heredoc
    raise ValueError(f"{parts.name} cannot have the heredoc {word[:80]} here")
