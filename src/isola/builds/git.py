"""Which programs fetch a Git repository, and as whom: argv, environment and messages. Pure.

Git reads what a foreign server sends. It runs as a user of its own that owns one directory and nothing else, without
capabilities, in namespaces of processes and mounts, with limits on memory and on the size of files. Nothing of the
repository is executed: there are no hooks, filters, submodules or helpers, and no work tree. What it packs into a tar
archive is unpacked like any other foreign one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from isola.errors import CommandFailed, HostFailure, InvalidInput, IsolaError, NotFound, StorageFull, TooLarge
from isola.host.exhaustion import reports_full_disk
from isola.model.git_address import HEAD, GitAddress

PLACE = "/mnt"
"""Where Git sees its directory: those above may be closed to its user."""
REPOSITORY, ARCHIVE, TEMPLATE = "git", "archive.tar", "template"
"""Names in its directory."""
TOKEN, HEADER = "GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"
"""Secrets of a build for private repositories, as BuildKit's; ``GIT_AUTH_TOKEN.host`` is for that host alone."""
MISSING = 127
_FIRST_USER = (1 << 31) + (1 << 30)
_USERS = 1 << 24
_MEMORY = 4 << 30
_SECONDS = 3600
_SLOWEST, _SILENCE = "1", "60"
_NO_REF = re.compile(r"couldn't find remote ref|not our ref|Server does not allow request for unadvertised")
_ENTER = f'mount --bind "$1" {PLACE} && cd {PLACE} && shift && exec "$@"'


def user(token: str) -> int:
    """An id that no user and no instance has, for one fetch. ``token``: random hexadecimal digits."""
    return _FIRST_USER + int(token, 16) % _USERS


def confined(directory: str, owner: int, most: int, argv: Sequence[str]) -> list[str]:
    """``most``: bytes of a file."""
    return [
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        "sh", "-c", _ENTER, "sh", directory,
        "prlimit", f"--fsize={most}", f"--as={_MEMORY}", f"--cpu={_SECONDS}", "--core=0", "--",
        "setpriv", "--reuid", str(owner), "--regid", str(owner), "--clear-groups",
        "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--",
        *argv,
    ]  # fmt: skip


def environment(
    base: Mapping[str, str], pinned: Sequence[str] = (), authorization: str = "", url: str = ""
) -> dict[str, str]:
    """``base``: proxies and the search path; ``pinned``: the addresses of the only server that is connected to."""
    settings = {
        "advice.detachedHead": "false",
        "core.hooksPath": "/dev/null",
        "core.askPass": "false",
        "credential.helper": "",
        "fetch.recurseSubmodules": "false",
        "fetch.unpackLimit": "1",
        "fetch.writeCommitGraph": "false",
        "gc.auto": "0",
        "http.followRedirects": "false",
        "http.lowSpeedLimit": _SLOWEST,
        "http.lowSpeedTime": _SILENCE,
        "maintenance.auto": "false",
        "pack.threads": "1",
        "protocol.version": "2",
        "tar.umask": "0022",
        "transfer.bundleURI": "false",
    }
    if pinned:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        settings["http.curloptResolve"] = f"{parts.hostname}:{port}:{','.join(map(_literal, pinned))}"
    if authorization:
        settings[f"http.{url}.extraHeader"] = f"Authorization: {authorization}"
    numbered: dict[str, str] = {}
    for number, (key, value) in enumerate(settings.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {
        **base,
        **numbered,
        "GIT_CONFIG_COUNT": str(len(settings)),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https",
        "GIT_DIR": f"{PLACE}/{REPOSITORY}",
        "HOME": PLACE,
        "LC_ALL": "C.UTF-8",
    }


ATTRIBUTES = b"* -export-ignore -export-subst\n"
"""Those of the repository would leave files out of the archive, or change them."""


def init() -> list[str]:
    """A repository without the samples of hooks."""
    return ["git", "init", "--quiet", "--bare", f"--template={PLACE}/{TEMPLATE}", f"{PLACE}/{REPOSITORY}"]


_COUNT = (
    'git ls-tree -r -t --format="%(objectsize)" "$1" | head -n "$2" | '
    "awk '{ bytes += $1 } END { printf \"%d %.0f\\n\", NR, bytes }'"
)


def measure(tree: str, entries: int) -> list[str]:
    """Prints the number of files, counted up to ``entries``, and their bytes.

    A repository of a few KiB can have one directory in many places, and trees in trees; an archive of it would take
    memory for each of them before its first byte is written.
    """
    return ["sh", "-c", _COUNT, "sh", tree, str(entries)]


def kept(commit: str, url: str) -> list[list[str]]:
    """What makes it the repository of a work tree at the commit, without a branch."""
    left = [f"{PLACE}/{REPOSITORY}/{name}" for name in ("FETCH_HEAD", "info/attributes")]
    return [
        ["git", "update-ref", "--no-deref", "HEAD", commit],
        ["git", "read-tree", commit],
        ["git", "config", "core.bare", "false"],
        ["git", "config", "remote.origin.url", url],
        ["rm", "-f", "--", *left],
    ]


def fetch(url: str, ref: str, *, shallow: bool) -> list[str]:
    """``ref``: empty for all branches and tags; ``shallow``: without history, which plain file servers cannot do."""
    begin = ["git", "fetch", "--quiet", "--no-auto-gc", "--no-recurse-submodules"]
    if not ref:
        return [*begin, "--tags", "--", url, "+refs/heads/*:refs/remotes/origin/*"]
    return [*begin, *(["--depth=1"] if shallow else []), "--no-tags", "--", url, ref]


def authorization(secrets: Mapping[str, bytes], url: str) -> str:
    """The header for this server. Raises InvalidInput."""
    host = urlsplit(url).hostname or ""
    for name in (HEADER, TOKEN):
        value = secrets.get(f"{name}.{host}", secrets.get(name))
        if value is None:
            continue
        text = value.decode("ascii", "replace").strip()
        if not text.isascii() or not text.isprintable() or len(text) > 8192:
            raise InvalidInput(f"The secret {name} is not one line of ASCII characters", field="secrets")
        if name == HEADER:
            return text
        return "basic " + base64.b64encode(f"x-access-token:{text}".encode()).decode()
    return ""


def explained(error: CommandFailed, address: GitAddress) -> IsolaError:
    """The error of a command of Git."""
    output = error.evidence.strip()[-500:]
    if is_missing(error) and address.ref != HEAD:
        return NotFound(f"{address.url} has no branch, tag or commit {address.ref}", evidence=output, field="ref")
    if reports_full_disk(output):
        return StorageFull("The disk is full", evidence=output)
    if "File too large" in output or "Out of memory" in output or error.status in (153, -25):
        return too_large(address)
    if error.status == MISSING:
        return HostFailure("Git repositories are fetched by git, which is not installed on this host", evidence=output,
                           remedy="apt-get install git")  # fmt: skip
    return HostFailure(f"The Git repository {address.url} cannot be fetched", evidence=output)


def is_missing(error: CommandFailed) -> bool:
    """Whether the server has no such reference."""
    return _NO_REF.search(error.evidence) is not None


def too_large(address: GitAddress) -> TooLarge:
    """Beyond the limit of contexts."""
    return TooLarge(
        f"The Git repository {address.url} is too large", field="context", remedy="raise builds.limits.context"
    )


def _literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address
