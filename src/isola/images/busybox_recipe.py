"""The contents of a busybox system: one static program, links to it, and a shell script as init."""

from __future__ import annotations

import io
import re
import tarfile
from datetime import UTC, datetime

CREATED = datetime(2026, 11, 22, tzinfo=UTC)
"""The recipe's last change. Fixed, so that the same busybox always gives the same image."""
STOP_SIGNAL = "SIGPWR"
_APPLETS = """
    [ [[ ar arch arping ascii ash awk base64 basename bc bunzip2 bzcat bzip2 cal cat chgrp chmod chown chroot clear
    cmp cp cpio crc32 crond crontab cut date dc dd df diff dirname dmesg dnsdomainname dos2unix du echo ed egrep env
    expand expr factor fallocate false fgrep find fold free ftpget ftpput getopt getty grep groups gunzip
    gzip halt head hexdump hostid hostname httpd id ifconfig ionice ip ipcalc kill killall last less link ln
    logger login logname logread ls lzcat lzma md5sum microcom mkdir mkfifo mknod mkpasswd mktemp more mount mt mv nc
    netstat nl nologin nproc nsenter nslookup od passwd paste patch pidof ping ping6 poweroff
    printf ps pwd readlink realpath reboot renice reset rev rm rmdir route run-parts sed seq setpriv setsid sh sha1sum
    sha256sum sha3sum sha512sum shred shuf sleep sort ssl_client start-stop-daemon stat strings stty su sync
    sysctl syslogd tac tail tar taskset tee telnet telnetd test tftp time timeout top touch tr traceroute traceroute6
    true truncate ts tty udhcpc umount uname uncompress unexpand uniq unix2dos unlink unlzma unshare unxz unzip uptime
    usleep uudecode uuencode vi watch wc wget which who whoami xargs xxd xz xzcat yes zcat
"""
_DIRECTORIES = "bin dev etc etc/udhcpc home lib proc root run sbin sys tmp usr usr/bin var var/log"
_INIT = """\
#!/bin/sh
# Process 1: halts on the signals that container managers and busybox's own halt send, restarts on `reboot`.
trap 'exit 0' INT PWR USR1 USR2 37
trap 'reboot -f; exit 129' TERM
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=${TERM:-linux}
[ -e /sys/class/net/lo ] && ip link set lo up 2>/dev/null
for path in /sys/class/net/eth*; do
    [ -e /etc/dhcp ] && [ -e "$path" ] || continue
    name=${path##*/}
    ip link set "$name" up && udhcpc -i "$name" -b -S >/dev/null 2>&1 &
done
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
# With several networks, the first gives the default route and the name servers.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
number=${interface#eth}
ip addr replace "$ip/$mask" dev "$interface"
[ -n "$router" ] && ip route replace default via "${router%% *}" dev "$interface" metric $((1024 + number))
[ "$number" = 0 ] || [ ! -s /etc/resolv.conf ] || exit 0
: >/etc/resolv.conf
[ -n "$domain" ] && echo "search $domain" >>/etc/resolv.conf
for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
"""
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    "user:x:1000:1000:user:/home:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\nusers:x:100:user\nuser:x:1000:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/profile": "PS1='\\w \\$ '\n",
}
_VERSION = re.compile(rb"BusyBox v([0-9]+(?:\.[0-9]+){1,3})")


def version_of(busybox: bytes) -> str:
    """The version in the program's banner; empty if there is none."""
    found = _VERSION.search(busybox)
    return found[1].decode() if found else ""


def is_static(program: bytes) -> bool:
    """Whether it is a statically linked ELF program (one without PT_INTERP)."""
    if len(program) < 64 or program[:4] != b"\x7fELF":
        return False
    wide, order = program[4] == 2, "big" if program[5] == 2 else "little"

    def number(start: int, size: int) -> int:
        return int.from_bytes(program[start : start + size], order)  # type: ignore[arg-type]

    table, size, count = (number(32, 8), number(54, 2), number(56, 2)) if wide else (
        number(28, 4), number(42, 2), number(44, 2))  # fmt: skip
    return all(number(table + size * entry, 4) != 3 for entry in range(count))


def root_tarball(busybox: bytes) -> bytes:
    """The root file system as a tarball, reproducible for the same program."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add_root(archive, busybox)
    return packed.getvalue()


def add_root(
    archive: tarfile.TarFile, busybox: bytes, prefix: str = "", *, release: str = "Busybox", dhcp: bool = True
) -> None:
    """The root file system below ``prefix``; with ``dhcp`` it asks for addresses."""
    if prefix:
        add(archive, prefix.rstrip("/"), kind=tarfile.DIRTYPE)
    for path in _DIRECTORIES.split():
        add(archive, prefix + path, kind=tarfile.DIRTYPE, mode=0o1777 if path == "tmp" else 0o755)
    add(archive, prefix + "bin/busybox", busybox, mode=0o755)
    for applet in _APPLETS.split():
        add(archive, prefix + f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
    add(archive, prefix + "sbin/init", _INIT.encode(), mode=0o755)
    add(archive, prefix + "etc/udhcpc/default.script", _LEASE.encode(), mode=0o755)
    for path, content in _FILES.items():
        add(archive, prefix + path, content.encode(), mode=0o640 if path == "etc/shadow" else 0o644)
    named = f'ID={release.rpartition(" ")[2].lower()}\nNAME="{release}"\nPRETTY_NAME="{release}"\n'
    add(archive, prefix + "etc/os-release", named.encode())
    if dhcp:
        add(archive, prefix + "etc/dhcp", b"")


def add(
    archive: tarfile.TarFile,
    path: str,
    content: bytes = b"",
    *,
    mode: int = 0o644,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
) -> None:
    """One member that belongs to root."""
    info = tarfile.TarInfo(path)
    info.mode = 0o755 if kind == tarfile.DIRTYPE and mode == 0o644 else mode
    info.type, info.linkname, info.size, info.mtime = kind, target, len(content), int(CREATED.timestamp())
    info.uname = info.gname = "root"
    archive.addfile(info, io.BytesIO(content))
