"""Network namespaces that outlive the process that created them, each kept by a bind mount on a file.

Such a namespace belongs to a user namespace created with it: root there administers its links, addresses and routes,
and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from isola.errors import AlreadyExists, HostFailure, NotFound, WrongState
from isola.host import call_chain, kernel, netlink
from isola.host.credentials import effective_user
from isola.host.places import in_passing_thread
from isola.model.identity import IdRange

_NS_GET_USERNS, _NS_GET_NSTYPE = 0xB701, 0xB703
_NET = Path("/proc/sys/net")
_IPV6 = _NET / "ipv6/conf"
_ROUTES = Path("/proc/thread-self/net/ipv6_route")
_REJECTS = 0x200
"""Flag of routes that lead nowhere."""
_REMEDY = "it needs CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, and room below user.max_net_namespaces"


def make(path: Path, idmap: IdRange, beside: Path | None = None) -> None:
    """Create a namespace, with ``lo`` up, that is kept at ``path``, a new file.

    Both it and its user namespace count against the limits of the first id of the range. It belongs to the same as the
    one ``beside``, if that is given. Raises AlreadyExists, HostFailure; WrongState if there is none beside.
    """
    try:
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(owner(beside)) if beside is not None else None
            _prepare(path)
            stack.enter_context(effective_user(idmap.base))
            user = os.dup(other) if other is not None else kernel.user_namespace(idmap.base, idmap.size)
            try:
                namespace = _new_in(user)
            finally:
                os.close(user)
        try:
            _start_loopback(namespace)
            _mount(namespace, path)
        finally:
            os.close(namespace)
    except OSError as error:
        raise HostFailure("Cannot make a network namespace", evidence=str(error), remedy=_REMEDY) from error


def keep(namespace: int, path: Path) -> None:
    """Keep the network namespace of a descriptor at a path. Raises WrongState, AlreadyExists, HostFailure."""
    try:
        if os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/net")):
            raise WrongState("It runs in the network namespace of the daemon")
        _prepare(path)
        _mount(namespace, path)
    except OSError as error:
        raise HostFailure("Cannot keep a network namespace", evidence=str(error), remedy=_REMEDY) from error


def remove(path: Path) -> None:
    """Unmount the namespace: it ends, with the links in it, when no process is in it. No effect if there is none."""
    try:
        with contextlib.suppress(FileNotFoundError):
            while kernel.is_mount_point(path):
                kernel.unmount(path)
            path.unlink()
    except OSError as error:
        raise HostFailure(f"Cannot remove the network namespace {path.name}", evidence=str(error)) from error


def refuse_routers(path: Path, *, ipv6: bool) -> int:
    """Links ignore routers from now on; without ``ipv6`` they have no IPv6 at all. How many default routes of IPv6 are
    there. Raises WrongState, HostFailure.
    """
    namespace = open_at(path)
    try:
        return in_passing_thread(lambda: _refuse_routers(namespace, ipv6=ipv6))
    except OSError as error:
        raise HostFailure(f"Cannot configure the network namespace {path.name}", evidence=str(error)) from error
    finally:
        os.close(namespace)


def set_parameters(path: Path, values: Mapping[str, str]) -> None:
    """``values``: file below ``/proc/sys/net`` -> text. Raises WrongState, NotFound (no such file), HostFailure."""
    namespace = open_at(path)
    try:
        in_passing_thread(lambda: _set_parameters(namespace, values))
    finally:
        os.close(namespace)


def is_left(path: Path) -> bool:
    """Whether there is something to remove, if only a file without a namespace."""
    return os.path.lexists(path)


def open_at(path: Path) -> int:
    """A descriptor of the network namespace at a path. Raises WrongState if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise WrongState(f"There is no network namespace {path.name}") from None
    except OSError as error:
        raise HostFailure(f"Cannot open the network namespace {path.name}", evidence=str(error)) from error
    try:
        if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == kernel.CLONE_NEWNET:
            return descriptor
    except OSError:  # a file without a mount: left from before a reboot
        pass
    os.close(descriptor)
    raise WrongState(f"There is no network namespace {path.name}")


@contextlib.contextmanager
def owner(path: Path) -> Iterator[int]:
    """A descriptor of the user namespace it belongs to. Raises WrongState, HostFailure."""
    namespace = open_at(path)
    try:
        user = fcntl.ioctl(namespace, _NS_GET_USERNS)
    except OSError as error:
        raise HostFailure("Cannot determine the owner of the network namespace", evidence=str(error)) from error
    finally:
        os.close(namespace)
    try:
        yield user
    finally:
        os.close(user)


def _refuse_routers(namespace: int, *, ipv6: bool) -> int:
    kernel.join(namespace, kernel.CLONE_NEWNET)
    if not _IPV6.is_dir():
        return 0
    if not ipv6:
        (_IPV6 / "all/disable_ipv6").write_text("1")
        return 0
    for link in _IPV6.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            (link / "accept_ra").write_text("0")
    return sum(map(_is_default, _ROUTES.read_text().splitlines()))


def _set_parameters(namespace: int, values: Mapping[str, str]) -> None:
    kernel.join(namespace, kernel.CLONE_NEWNET)
    for name, value in values.items():
        file = _NET / name
        if not file.is_file():
            raise NotFound(f"{file} is not a sysctl file")
        try:
            if file.read_text().strip() != value:  # writing some of these resets others
                file.write_text(value)
        except OSError as error:
            raise HostFailure(f"Cannot write {value!r} to {file}", evidence=str(error)) from error


def _is_default(route: str) -> bool:
    target, length, *rest = route.split()
    return not int(target, 16) and length == "00" and not int(rest[6], 16) & _REJECTS


def _start_loopback(namespace: int) -> None:
    """Bring ``lo`` up: the kernel creates it down, and not every first program cares for it."""
    with netlink.opened_in(namespace) as sender:
        netlink.ask(sender, netlink.up("lo"))


def _prepare(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if kernel.is_mount_point(path):
            raise AlreadyExists(f"There is a network namespace {path.name} already")


def _mount(namespace: int, path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        kernel.mount(f"/proc/self/fd/{namespace}", path, "", "", kernel.MS_BIND)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _new_in(user: int) -> int:
    """A descriptor of a new network namespace that belongs to a user namespace."""
    namespace = call_chain.descriptor_of(
        [("setns", user, kernel.CLONE_NEWUSER), ("unshare", kernel.CLONE_NEWNET)],
        ("open", b"/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC),
    )
    # Failures of calls in the child are not reported, so the result is checked.
    found = fcntl.ioctl(namespace, _NS_GET_USERNS)
    try:
        if os.path.samestat(os.fstat(found), os.fstat(user)):
            return namespace
    finally:
        os.close(found)
    os.close(namespace)
    raise OSError(errno.EPERM, "the user namespace could not be entered, or has no room for a network namespace")
