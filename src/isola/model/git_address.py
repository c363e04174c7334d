"""Addresses of Git repositories, as ADD and builds write them: ``https://host/name.git#REF:DIRECTORY``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from posixpath import normpath
from urllib.parse import urlsplit

_LONGEST = 4096
_HTTP = re.compile(r"https?://[^#?]*\.git/?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_OTHER = re.compile(r"(?:git|ssh|git\+https?|git\+ssh)://|[a-z0-9_.-]+@[a-z0-9_.-]+:", re.IGNORECASE)
_SHORT = re.compile(r"github\.com/[^#?]+(?:#.*)?", re.IGNORECASE | re.DOTALL)
_REF = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/+@=%,-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
HEAD = "HEAD"


@dataclass(frozen=True, slots=True)
class GitAddress:
    """What is taken from a repository."""

    url: str
    """``http://`` or ``https://``, without credentials."""
    ref: str = HEAD
    """A branch, a tag, a complete commit id, or a name such as ``refs/pull/1/head``."""
    directory: str = ""
    """Relative; empty is all of it."""

    @property
    def commit(self) -> str:
        """The commit, if the reference is one."""
        return self.ref if _COMMIT.fullmatch(self.ref) else ""

    def __str__(self) -> str:
        return f"{self.url}#{self.ref}" + (f":{self.directory}" if self.directory else "")


def parse_git(text: str, *, context: bool = False) -> GitAddress | None:
    """None if it does not mean a repository. ``context``: also Docker's short form ``github.com/owner/name``.

    Raises ValueError if it means one that cannot be fetched.
    """
    if context and _SHORT.fullmatch(text):
        text = f"https://{text}"
    elif _OTHER.match(text):
        raise ValueError(
            f"Git repositories are fetched by https and http only, without an agent or keys of SSH: {text[:200]}"
        )
    elif not _HTTP.fullmatch(text):
        return None
    url, _, fragment = text.partition("#")
    ref, _, directory = fragment.partition(":")
    return GitAddress(_url(url), _ref(ref), _directory(directory))


def _url(url: str) -> str:
    if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"the address of the Git repository cannot be used: {url[:200]}")
    if urlsplit(url).username is not None:
        raise ValueError(
            "the address of the Git repository has a name or password, which would be in the image's history: "
            "use the secret GIT_AUTH_TOKEN"
        )
    return url


def _ref(text: str) -> str:
    if not text:
        return HEAD
    if (
        len(text) > _LONGEST
        or not _REF.fullmatch(text)
        or ".." in text
        or "@{" in text
        or text.endswith((".lock", "/"))
    ):
        raise ValueError(f"not a branch, tag or commit of a Git repository: {text[:200]}")
    return text


def _directory(text: str) -> str:
    found = normpath(f"/{text}").lstrip("/")
    if len(text) > _LONGEST or "\0" in text or ".." in text.split("/"):
        raise ValueError(f"not a directory of a Git repository: {text[:200]}")
    return found
