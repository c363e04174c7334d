"""Files of Git repositories, for ADD and as contexts (``git`` says how Git is run)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from isola.builds import git
from isola.errors import CommandFailed, Forbidden, HostFailure, InvalidInput, NotFound
from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.cancellation import finish
from isola.host.http import HttpRequest, same_server
from isola.host.process import Completed
from isola.model.git_address import GitAddress

_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SMART = "application/x-git-upload-pack-advertisement"
_TIMEOUT = 3600.0
_WATCHED = 1.0
"""Seconds between looks at what a server has sent."""
_SUBMODULES = ".gitmodules"


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of a commit."""

    tree: Path
    commit: str
    modified: int
    """The time of the commit, in seconds since 1970."""
    submodules: bool
    """Whether there are repositories in it, which were not fetched."""


@dataclass(slots=True)
class Repositories:
    """Those of one build, each fetched once."""

    host: Host
    place: Path
    """The build's directory."""
    limits: UnpackLimits
    secrets: Mapping[str, bytes]
    _found: dict[tuple[GitAddress, bool], Checkout] = field(default_factory=dict)
    _locks: dict[tuple[GitAddress, bool], asyncio.Lock] = field(default_factory=dict)

    async def checkout(self, address: GitAddress, *, keep_git: bool = False) -> Checkout:
        """``keep_git``: with the repository itself in ``.git``.

        Raises NotFound, Forbidden, InvalidInput, TooLarge, UnsafeArchive, HostFailure.
        """
        key = (address, keep_git)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._found:
                self._found[key] = await _Fetch(self, address).run(keep_git=keep_git)
        return self._found[key]


class _Fetch:
    """One, in a directory that is removed afterwards."""

    def __init__(self, parent: Repositories, address: GitAddress) -> None:
        self._host = parent.host
        self._parent = parent
        self._address = address
        token = parent.host.clock.token(6)
        self._owner = git.user(token)
        self._work = parent.place / f"git-{token}"
        self._tree = parent.place / f"repository-{token}"
        self._environment: dict[str, str] = {}

    async def run(self, *, keep_git: bool) -> Checkout:
        files = self._host.files
        url, smart = await self._discovered()
        self._environment = git.environment(
            {"PATH": _PATH, **{name: os.environ[name] for name in _PASSED_ON if name in os.environ}},
            await self._host.http.addresses(url),
            self._authorization(url),
            url,
        )
        await files.make_directory(self._work, mode=0o700, owner=self._owner)
        try:
            commit = await self._commit(url, smart=smart)
            made = await self._unpacked(commit, keep_git=keep_git)
        except CommandFailed as error:
            raise git.explained(error, self._address) from error
        finally:
            await finish(files.remove_tree(self._work))
        return made

    def _authorization(self, url: str) -> str:
        """Only the server that was named gets it."""
        return git.authorization(self._parent.secrets, url) if same_server(url, self._address.url) else ""

    async def _discovered(self) -> tuple[str, bool]:
        """Where redirects lead to, which Git does not follow, and whether the server is more than a directory."""
        given = self._address.url.rstrip("/")
        headers = {"Git-Protocol": "version=2"}
        if secret := git.authorization(self._parent.secrets, given):
            headers["Authorization"] = secret
        request = HttpRequest("GET", f"{given}/info/refs?service=git-upload-pack", headers)
        async with self._host.http.exchange(request) as response:
            status, url = response.status, urlsplit(response.url)._replace(query="").geturl()
            smart = response.headers.get("content-type", "").startswith(_SMART)
        if status in (401, 403):
            raise Forbidden(
                f"The Git repository {given} needs a login, or does not exist", evidence=f"status {status}",
                remedy="give a token as the secret GIT_AUTH_TOKEN",
            )  # fmt: skip
        if status != 200:
            kind = NotFound if status == 404 else HostFailure
            raise kind(f"There is no Git repository at {given}", evidence=f"status {status}")
        if not url.endswith("/info/refs"):
            raise HostFailure(
                f"The server of {given} redirects to something that is not a repository", evidence=url[:200]
            )
        return url.removesuffix("/info/refs"), smart

    async def _commit(self, url: str, *, smart: bool) -> str:
        template = self._work / git.TEMPLATE / "info"
        await self._host.files.make_directory(template, mode=0o755)
        await self._host.files.write(template / "attributes", git.ATTRIBUTES, mode=0o644, durable=False)
        await self._git(git.init())
        commit = self._address.commit
        if smart or not commit:
            try:
                await self._watched(git.fetch(url, self._address.ref, shallow=smart))
                return await self._resolved("FETCH_HEAD")
            except CommandFailed as error:
                if not (commit and git.is_missing(error)):
                    raise
        # The server gives no commit by its id alone.
        await self._watched(git.fetch(url, "", shallow=False))
        return await self._resolved(commit)

    async def _resolved(self, name: str) -> str:
        try:
            return await self._output(["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"])
        except CommandFailed as error:
            raise NotFound(
                f"{self._address.url} has no branch, tag or commit {self._address.ref}", field="ref"
            ) from error

    async def _unpacked(self, commit: str, *, keep_git: bool) -> Checkout:
        files, address, limits = self._host.files, self._address, self._parent.limits
        if address.directory and await self._kind(f"{commit}:{address.directory}") != "tree":
            raise NotFound(f"{address.url} has no directory {address.directory[:200]} in {address.ref}", field="ref")
        submodules = await self._kind(f"{commit}:{_SUBMODULES}") == "blob"
        modified = int((await self._output(["git", "rev-list", "--max-count=1", "--timestamp", commit])).split()[0])
        await self._require_small(f"{commit}:{address.directory}" if address.directory else commit)
        below = ["--", address.directory] if address.directory else []
        await self._watched(["git", "archive", "--format=tar", "-o", f"{git.PLACE}/{git.ARCHIVE}", commit, *below])
        await self._require_own(f"/{git.ARCHIVE}")
        await files.make_directory(self._tree, mode=0o755)
        await self._host.archives.unpack(
            self._work / git.ARCHIVE, self._tree, subtree=address.directory, limits=limits, digest=False
        )
        if keep_git:
            await self._keep(commit)
        return Checkout(self._tree, commit, max(modified, 0), submodules)

    async def _keep(self, commit: str) -> None:
        """The repository as ``git checkout`` would leave it, without a branch."""
        for argv in git.kept(commit, self._address.url):
            await self._git(argv)
        files, repository = self._host.files, self._work / git.REPOSITORY
        await files.remove_tree(self._tree / ".git")
        await files.rename(repository, self._tree / ".git")

    async def _require_small(self, tree: str) -> None:
        limits = self._parent.limits
        entries, size = map(int, (await self._output(git.measure(tree, limits.entries + 1))).split())
        if entries > limits.entries or size > limits.bytes:
            raise git.too_large(self._address)

    async def _require_own(self, path: str) -> None:
        """Nothing of a user's runs any more, but it might have left a link to a file of the host."""
        async with self._host.files.root(self._work) as root:
            if (await root.stat(path, follow=False)).kind != "file":
                raise HostFailure("Git did not produce an archive", evidence=self._address.url)

    async def _kind(self, name: str) -> str:
        try:
            return await self._output(["git", "cat-file", "-t", name])
        except CommandFailed:
            return ""

    async def _output(self, argv: Sequence[str]) -> str:
        return (await self._git(argv)).stdout.decode("utf-8", "replace").strip()

    async def _git(self, argv: Sequence[str]) -> Completed:
        confined = git.confined(str(self._work), self._owner, self._parent.limits.bytes, argv)
        return await self._host.processes.run(confined, env=self._environment, timeout=_TIMEOUT)

    async def _watched(self, argv: Sequence[str]) -> None:
        """Many small files are bounded as one large one is. Raises TooLarge, CommandFailed."""
        running = asyncio.ensure_future(self._git(argv))
        try:
            while not (await asyncio.wait([running], timeout=_WATCHED))[0]:
                if await self._host.files.disk_usage(self._work) > 2 * self._parent.limits.bytes:
                    raise git.too_large(self._address)
            await running
        finally:
            if not running.done():
                running.cancel()
                await finish(asyncio.wait([running]))


def require_commit(checkout: Checkout, checksum: str, address: GitAddress) -> None:
    """Raises InvalidInput unless the commit's id begins so."""
    if not checkout.commit.startswith(checksum):
        raise InvalidInput(
            f"expected checksum to match {checksum}, got {checkout.commit}", evidence=str(address), field="dockerfile"
        )


def limits_within(limits: UnpackLimits, most: int, entries: int) -> UnpackLimits:
    """The limits of archives, with those of contexts."""
    return replace(limits, bytes=min(most, limits.bytes), entries=min(entries, limits.entries))
