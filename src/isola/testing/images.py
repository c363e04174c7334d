"""A whole system of two megabytes: boots at once, obeys its stop signal, needs no network and no mirror."""

from __future__ import annotations

import gzip
import io
import json
import platform
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_BUSYBOX = Path("/bin/busybox")
_CREATED = 1_700_000_000
"""Fixed, so that the same image has the same fingerprint every time."""
_APPLETS = """
    ash awk base64 basename cat chmod chown clear cmp cp cut date dd df dirname dmesg du echo ed egrep env expr
    false find free getopt grep groups gunzip gzip halt head hexdump hostname id ifconfig ip kill killall less
    ln logger ls md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nice nohup nproc nslookup od ping
    ping6 poweroff printf ps pwd readlink realpath reboot rm rmdir route sed seq setsid sh sha256sum sleep sort
    stat stty sync tail tar taskset tee telnet test time timeout top touch tr traceroute true tty udhcpc umount
    uname uniq unlink uptime vi wc wget which whoami xargs yes
"""
_DIRECTORIES = "bin dev etc etc/udhcpc home lib proc root run sbin sys tmp usr usr/bin var var/log"
_INIT = """\
#!/bin/sh
# Process 1: halts on the signals that container managers and busybox's own halt send, restarts on `reboot`.
trap 'exit 0' INT PWR USR1 USR2 37
trap 'reboot -f; exit 129' TERM
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=${TERM:-linux}
[ -e /sys/class/net/lo ] && ip link set lo up 2>/dev/null
[ -e /etc/dhcp ] && [ -e /sys/class/net/eth0 ] && ip link set eth0 up && udhcpc -i eth0 -b -S >/dev/null 2>&1 &
cd /root
exec 3<&0
while :; do
    if [ -t 3 ]; then sh -l <&3 & else sleep 1000000 & fi
    wait $!
    sleep 1 & wait $!
done
"""
_LEASE = """\
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace "$ip/$mask" dev "$interface"
[ -n "$router" ] && ip route replace default via "${router%% *}" dev "$interface"
: >/etc/resolv.conf
[ -n "$domain" ] && echo "search $domain" >>/etc/resolv.conf
for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
"""


def tiny_image(
    directory: Path, name: str = "tiny", *, dhcp: bool = False, properties: Mapping[str, str] | None = None
) -> Path:
    """Write ``<directory>/<name>.tar.gz``, a unified LXD image around Debian's static busybox, and return its path.

    With ``dhcp`` it asks for an address on eth0. Its stop signal is SIGPWR; ``reboot`` ends it as a restart request.
    """
    target = directory / f"{name}.tar.gz"
    with _archive(target) as archive:
        _add(archive, "metadata.yaml", _metadata(name, properties or {}))
        _add_root(archive, "rootfs/", dhcp)
    return target


def tiny_split_image(
    directory: Path, name: str = "tiny", *, dhcp: bool = False, properties: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """The same as a split image: the metadata tarball and the root file system's."""
    metadata, root = directory / f"meta-{name}.tar.gz", directory / f"{name}.root.tar.gz"
    with _archive(metadata) as archive:
        _add(archive, "metadata.yaml", _metadata(name, properties or {}))
    with _archive(root) as archive:
        _add_root(archive, "", dhcp)
    return metadata, root


@contextmanager
def _archive(target: Path) -> Iterator[tarfile.TarFile]:
    with (
        gzip.GzipFile(target, "wb", compresslevel=1, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        yield archive


def _metadata(name: str, properties: Mapping[str, str]) -> bytes:
    described = {"os": "Busybox", "release": "tiny", "description": f"Busybox {name}", **properties}
    return json.dumps({"architecture": platform.machine(), "creation_date": _CREATED, "properties": described}).encode()


def _add_root(archive: tarfile.TarFile, prefix: str, dhcp: bool) -> None:
    if prefix:
        _add(archive, prefix.rstrip("/"), kind=tarfile.DIRTYPE)
    for path in _DIRECTORIES.split():
        _add(archive, prefix + path, kind=tarfile.DIRTYPE, mode=0o1777 if path == "tmp" else 0o755)
    _add(archive, prefix + "bin/busybox", _BUSYBOX.read_bytes(), mode=0o755)
    for applet in _APPLETS.split():
        _add(archive, prefix + f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
    _add(archive, prefix + "sbin/init", _INIT.encode(), mode=0o755)
    _add(archive, prefix + "etc/udhcpc/default.script", _LEASE.encode(), mode=0o755)
    for path, content in _CONFIGURATION.items():
        _add(archive, prefix + path, content.encode(), mode=0o640 if path == "etc/shadow" else 0o644)
    if dhcp:
        _add(archive, prefix + "etc/dhcp", b"")


_CONFIGURATION = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    "user:x:1000:1000:user:/home:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\nusers:x:100:user\nuser:x:1000:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/os-release": 'ID=tiny\nNAME="Busybox tiny"\nPRETTY_NAME="Busybox tiny"\n',
    "etc/profile": "PS1='\\w \\$ '\n",
}


def _add(
    archive: tarfile.TarFile,
    path: str,
    content: bytes = b"",
    *,
    mode: int = 0o644,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
) -> None:
    info = tarfile.TarInfo(path)
    info.mode = 0o755 if kind == tarfile.DIRTYPE and mode == 0o644 else mode
    info.type, info.linkname, info.size, info.mtime = kind, target, len(content), _CREATED
    info.uname = info.gname = "root"
    archive.addfile(info, io.BytesIO(content))
