"""All ports of one host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isola.host.archive.archives import Archives
    from isola.host.cgroups import Cgroups
    from isola.host.clock import Clock
    from isola.host.disk_images import DiskImages
    from isola.host.files import Files
    from isola.host.firewall import Firewall
    from isola.host.guest_mounts import GuestMounts
    from isola.host.http import Http
    from isola.host.id_ranges import IdRanges
    from isola.host.links import Links
    from isola.host.log_files import LogFiles
    from isola.host.mirrors import Mirrors
    from isola.host.mounts import Mounts
    from isola.host.namespaces import Namespaces
    from isola.host.nodes import Nodes
    from isola.host.process import Processes
    from isola.host.recording import Recorder
    from isola.host.refusals import Refusals
    from isola.host.sockets import Sockets
    from isola.host.subvolumes import Subvolumes
    from isola.host.system import System
    from isola.host.templates import Templates
    from isola.host.tree_quotas import TreeQuotas


@dataclass(frozen=True, slots=True)
class Host:
    """All ports of one host. ``isola.host.linux.linux_host`` builds the real one, ``isola.testing`` the fake."""

    processes: Processes
    mirrors: Mirrors
    mounts: Mounts
    guest_mounts: GuestMounts
    links: Links
    firewall: Firewall
    cgroups: Cgroups
    namespaces: Namespaces
    nodes: Nodes
    id_ranges: IdRanges
    files: Files
    log_files: LogFiles
    subvolumes: Subvolumes
    tree_quotas: TreeQuotas
    archives: Archives
    disk_images: DiskImages
    templates: Templates
    sockets: Sockets
    http: Http
    clock: Clock
    system: System
    recorder: Recorder
    refusals: Refusals
