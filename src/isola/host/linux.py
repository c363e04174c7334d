"""Builds the real host from all its ports."""

from __future__ import annotations

from isola.host import Host
from isola.host.archive.archives import LinuxArchives
from isola.host.archive.forked import Forked
from isola.host.cgroups import LinuxCgroups
from isola.host.clock import LinuxClock
from isola.host.disk_images import LinuxDiskImages
from isola.host.files import LinuxFiles
from isola.host.firewall import LinuxFirewall
from isola.host.guest_mounts import LinuxGuestMounts
from isola.host.http import LinuxHttp
from isola.host.id_ranges import LinuxIdRanges
from isola.host.links import LinuxLinks
from isola.host.log_files import LinuxLogFiles
from isola.host.mirrors import LinuxMirrors
from isola.host.mounts import LinuxMounts
from isola.host.namespaces import LinuxNamespaces
from isola.host.nodes import LinuxNodes
from isola.host.process import LinuxProcesses
from isola.host.recording import LinuxRecorder
from isola.host.refusals import LinuxRefusals
from isola.host.sockets import LinuxSockets
from isola.host.subvolumes import LinuxSubvolumes
from isola.host.system import LinuxSystem
from isola.host.templates import LinuxTemplates
from isola.host.tree_quotas import LinuxTreeQuotas


def linux_host() -> Host:
    """This machine."""
    processes = LinuxProcesses()
    forked = Forked(processes)
    return Host(
        processes=processes,
        mirrors=LinuxMirrors(processes),
        mounts=LinuxMounts(),
        guest_mounts=LinuxGuestMounts(),
        links=LinuxLinks(processes),
        firewall=LinuxFirewall(processes),
        cgroups=LinuxCgroups(),
        namespaces=LinuxNamespaces(),
        nodes=LinuxNodes(),
        id_ranges=LinuxIdRanges(processes),
        files=LinuxFiles(processes),
        log_files=LinuxLogFiles(),
        subvolumes=LinuxSubvolumes(processes),
        tree_quotas=LinuxTreeQuotas(),
        archives=LinuxArchives(processes, forked),
        disk_images=LinuxDiskImages(forked),
        templates=LinuxTemplates(processes),
        sockets=LinuxSockets(),
        http=LinuxHttp(),
        clock=LinuxClock(),
        system=LinuxSystem(),
        recorder=LinuxRecorder(),
        refusals=LinuxRefusals(),
    )
