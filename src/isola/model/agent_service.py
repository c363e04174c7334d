"""The guest agent as a service of a system with its own init: the files that start it. Pure.

The agent itself is not among them: the host gives its own at each start, on the disk with the label ``cidata``.
"""

from __future__ import annotations

from collections.abc import Mapping

PORT = "org.isola.agent"
SEED_LABEL = "cidata"
"""As cloud-init's NoCloud seeds have."""
SEED_SERIAL = "isola-seed"
SEED_AGENT, SEED_HOSTNAME = "isola/agent", "isola/hostname"
"""Paths on that disk."""
_START = "/etc/isola/start-agent"

_RULES = f"""\
SUBSYSTEM=="virtio-ports", ATTR{{name}}=="{PORT}", TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="isola-agent.service"
SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{{online}}=="0", ATTR{{online}}="1"
"""
# It stays until the machine is switched off, and is there before the services: they may hang.
_UNIT = f"""\
[Unit]
Description=Guest agent of Isola
DefaultDependencies=no
After=systemd-remount-fs.service local-fs-pre.target
ConditionPathExists=/dev/virtio-ports/{PORT}

[Service]
ExecStartPre=/bin/sh {_START}
ExecStart=/run/isola/agent --service
Restart=on-failure
RestartSec=5
TasksMax=infinity
LimitNOFILE=524288
OOMPolicy=continue
"""
# /run may be mounted without the right to execute, hence a file system of its own.
_LOADER = f"""\
#!/bin/sh
# Takes the agent of the host from the disk that it gives at each start.
set -eu
place=/run/isola
[ ! -x $place/agent ] || exit 0
seed=
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    for each in /dev/disk/by-id/*{SEED_SERIAL} /dev/disk/by-label/{SEED_LABEL}; do
        [ -n "$seed" ] || [ ! -b "$each" ] || seed=$each
    done
    [ -z "$seed" ] || break
    sleep 1
done
[ -n "$seed" ] || {{ echo "The host gives no disk with the label {SEED_LABEL}" >&2; exit 1; }}
mkdir -p $place
mount -t tmpfs -o mode=0700,size=16m,nosuid,nodev isola $place
mkdir $place/seed
mount -t vfat -o ro,nosuid,nodev,noexec,umask=0077 "$seed" $place/seed
cp $place/seed/{SEED_AGENT} $place/agent.new
# Images with cloud-init get their name from it.
if [ -s $place/seed/{SEED_HOSTNAME} ] && [ ! -e /usr/bin/cloud-init ] &&
    ! cmp -s $place/seed/{SEED_HOSTNAME} /etc/hostname; then
    cp $place/seed/{SEED_HOSTNAME} /etc/hostname && cat /etc/hostname >/proc/sys/kernel/hostname || true
fi
umount $place/seed
rmdir $place/seed
# Memory that is added to the running machine is used at once.
echo online 2>/dev/null >/sys/devices/system/memory/auto_online_blocks || true
chmod 0700 $place/agent.new
chcon -t bin_t $place/agent.new 2>/dev/null || true
mv $place/agent.new $place/agent
"""

FILES: Mapping[str, str] = {
    _START.lstrip("/"): _LOADER,
    "etc/systemd/system/isola-agent.service": _UNIT,
    "etc/udev/rules.d/90-isola-agent.rules": _RULES,
}
"""Path -> text, of an image that has them from the start."""


def installer() -> str:
    """A script for cloud-init (a boot hook, so it runs at each boot, early) that puts them into any image."""
    lines = ["#cloud-boothook", "#!/bin/sh", "# The guest agent of Isola.", "set -eu", "umask 022"]
    for path, text in FILES.items():
        end = "ISOLA_END"
        lines += [f"mkdir -p /{path.rpartition('/')[0]}", f"cat >/{path} <<'{end}'", text.rstrip("\n"), end]
    lines += [
        f"[ -e /dev/virtio-ports/{PORT} ] || exit 0",
        "if [ -d /run/systemd/system ]; then",
        "    systemctl daemon-reload",
        "    udevadm control --reload || true",
        "    systemctl start --no-block isola-agent.service",
        "else",
        f"    (sh {_START} && setsid /run/isola/agent --service) </dev/null >/dev/null 2>&1 &",
        "fi",
    ]
    return "\n".join(lines) + "\n"
