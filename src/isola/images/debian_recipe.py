"""The contents of a Debian system image: files, and the shell script that installs them.

Made for instances that share a kernel (no service that needs hardware is started), and also usable for virtual
machines: udev is installed, and does not start where /sys is read-only.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

PACKAGES = (
    "systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "iproute2", "iputils-ping", "netbase", "procps",
    "less", "nano",
)  # fmt: skip
"""On top of Debian's minimal base."""
_MERGED = "usr-is-merged"
_NOT_IN: Mapping[str, frozenset[str]] = {"bullseye": frozenset({_MERGED, "systemd-resolved"})}
"""Packages that a release does not have, or has under another name."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
_LEFT_OUT = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
)
"""Manual pages and translations: a third of the files, rarely needed in a container."""
_IDLE_TIMERS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
)
_NOT_IN_CONTAINERS = (
    "systemd-network-generator.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-udev-load-credentials.service",
)
"""Generators for kernel arguments, /etc/fstab and /dev, all of which the container's runtime has set up."""
_IDLE_GENERATORS = (
    "bless-boot", "cryptsetup", "debug", "gpt-auto", "hibernate-resume", "integritysetup", "run", "system-update",
    "tpm2", "veritysetup",
)  # fmt: skip
"""Units that look for disks and kernel arguments early in the boot, and take a fifth of its time."""
_NEEDS_HARDWARE = ("systemd-networkd-wait-online.service", "e2scrub_reap.service", "remote-fs.target")
_LOGIND_MASK = "/etc/systemd/system/dbus-org.freedesktop.login1.service"

_FIRST_METRIC, _ORDERED_NICS = 1024, 8
_NETWORK = """\
# Address and name servers come from the network; its IPv6 address follows from the MAC and so belongs to the instance.
# With several networks, the first gives the default route: the metric grows with the NIC's number.
[Match]
Name={name}

[Link]
RequiredForOnline=no

[Network]
DHCP=yes
IPv6AcceptRA=yes
IPv6PrivacyExtensions=no
IPv6LinkLocalAddressGenerationMode=eui64
LLMNR=no
MulticastDNS=no

[IPv6AcceptRA]
Token=eui64
RouteMetric={metric}

[DHCPv4]
ClientIdentifier=mac
UseHostname=no
UseDomains=yes
RouteMetric={metric}
"""

FILES: Mapping[str, str] = {
    **{
        f"etc/systemd/network/50-isola-eth{number}.network": _NETWORK.format(
            name=f"eth{number}", metric=_FIRST_METRIC + number
        )
        for number in range(_ORDERED_NICS)
    },
    "etc/systemd/network/51-isola.network": _NETWORK.format(name="eth*", metric=_FIRST_METRIC + _ORDERED_NICS),
    "etc/systemd/journald.conf.d/isola.conf": """\
[Journal]
SystemMaxUse=64M
""",
    # logind is needed only for sessions of PAM: without libpam-systemd it has no clients.
    "etc/systemd/system/systemd-logind.service.d/isola.conf": """\
[Unit]
ConditionPathExistsGlob=/usr/lib/*/security/pam_systemd.so
""",
    # logind's bus name is masked until its PAM module is installed (see below). Must be a single line.
    "etc/dpkg/dpkg.cfg.d/isola-logind": f"""\
post-invoke=[ ! -L {_LOGIND_MASK} ] || [ ! -e "$(echo /usr/lib/*/security/pam_systemd.so)" ] || \
{{ rm -f {_LOGIND_MASK}; [ ! -d /run/systemd/system ] || \
{{ systemctl daemon-reload; systemctl start systemd-logind.service; }}; }} || true
""",
    **{
        f"etc/systemd/system/{unit}.d/isola.conf": "[Unit]\nConditionVirtualization=!container\n"
        for unit in _NOT_IN_CONTAINERS
    },
    "etc/hosts": """\
127.0.0.1\tlocalhost
::1\t\tlocalhost ip6-localhost ip6-loopback
ff02::1\t\tip6-allnodes
ff02::2\t\tip6-allrouters
""",
}
TEMPLATES: Mapping[str, Mapping[str, object]] = {
    "/etc/hostname": {
        "when": ["create", "copy", "rename"],
        "create_only": False,
        "template": "hostname.tpl",
        "properties": {},
    },
}
"""The file from which systemd reads the host name at boot."""
TEMPLATE_FILES: Mapping[str, str] = {"hostname.tpl": "{{ container.name }}\n"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image to build."""

    suite: str
    architecture: str
    """Debian's name."""
    variant: str = "minbase"
    packages: tuple[str, ...] = ()
    """Packages in addition to ``PACKAGES``."""
    sources: tuple[str, ...] = ()
    """Mirrors or lines of a ``sources.list``. Empty: mmdebstrap's default."""
    format: str = "tar"
    """Of the target: ``tar``, or ``directory``, which has to be below /mnt, where apt's user reaches it."""

    def argv(self, *, work: str, target: str, setup: str) -> list[str]:
        """argv of the build in ``work``, to be run with ``TMPDIR=/mnt``; ``setup``: path of the setup script.

        It is killed with the daemon, and runs in its own PID and mount namespaces, so that no processes or mounts stay
        behind. Outside only root can access ``work``; inside, apt's own user sees it at /mnt.
        """
        command = [
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
            "sh", "-c", 'mount --bind "$1" /mnt && shift && exec "$@"', "sh", work,
            "mmdebstrap", "--mode=root", f"--format={self.format}", "--verbose", f"--variant={self.variant}",
            f"--architectures={self.architecture}", f"--keyring={KEYRING}", self._merging_usr(),
            f"--include={','.join(self._packages())}",
            f"--customize-hook={setup}",
        ]  # fmt: skip
        command += [f"--dpkgopt={option}" for option in _LEFT_OUT]
        return [*command, self.suite, target, *self.sources]

    def _merging_usr(self) -> str:
        """Merge /usr before the first package is unpacked, for releases without the package ``usr-is-merged``."""
        alone = _MERGED in _NOT_IN.get(self.suite, ())
        return f"--setup-hook={HOOKS}/setup00.sh" if alone else f"--hook-dir={HOOKS}"

    def _packages(self) -> list[str]:
        missing = _NOT_IN.get(self.suite, frozenset())
        return [name for name in (_MERGED, *PACKAGES, *self.packages) if name not in missing]


def setup_script(files_directory: str, more: str = "") -> str:
    """The setup script, which mmdebstrap runs with the new root as first argument; ``more`` commands come last."""
    return f"""\
#!/bin/sh
set -eu
root=$1
rm -f "$root/etc/fstab"
cp -R --no-preserve=ownership {shlex.quote(files_directory)}/. "$root/"
chroot "$root" systemctl enable -q systemd-networkd.service systemd-resolved.service
chroot "$root" systemctl disable -q {" ".join(_IDLE_TIMERS + _NEEDS_HARDWARE)} 2>/dev/null || true
mkdir -p "$root/etc/systemd/system-generators"
for name in {" ".join(_IDLE_GENERATORS)}; do
    ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$name-generator"
done
chroot "$root" systemctl set-default -q multi-user.target
# While logind is not wanted, asking the bus for it fails at once; else `systemctl reboot` would wait 50 seconds for it.
[ -e "$(echo "$root"/usr/lib/*/security/pam_systemd.so)" ] || ln -sf /dev/null "$root{_LOGIND_MASK}"
chroot "$root" passwd -q -l root
chroot "$root" sh -c 'echo LANG=C.UTF-8 >/etc/default/locale'
# Every instance creates its own machine id; an empty file does not count as a first boot.
: >"$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
ln -sfn /etc/machine-id "$root/var/lib/dbus/machine-id"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
rm -rf "$root"/var/cache/debconf/*-old "$root"/var/log/*.log "$root"/var/log/apt "$root"/var/cache/ldconfig \
    "$root/etc/.resolv.conf.systemd-resolved.bak"
# Marks /etc and /var as up to date, so that no ConditionNeedsUpdate= unit runs at boot.
touch -d "@$SOURCE_DATE_EPOCH" "$root/usr"
for place in etc var; do touch -d "@$SOURCE_DATE_EPOCH" "$root/$place/.updated"; done
{more}"""
