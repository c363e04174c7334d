"""A whole host in memory: a stateful fake for every port, connected so that their states are consistent."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.host import Host
from isola.host.id_ranges import Extent
from isola.host.process import ProcessRef
from isola.testing.archives import FakeArchives
from isola.testing.cgroups import FakeCgroups
from isola.testing.clock import FakeClock
from isola.testing.disk_images import FakeDiskImages
from isola.testing.files import FakeFiles
from isola.testing.firewall import FakeFirewall
from isola.testing.forwarder import forwarder
from isola.testing.guest_mounts import FakeGuestMounts
from isola.testing.http import FakeHttp
from isola.testing.id_ranges import FakeIdRanges
from isola.testing.links import FakeLinks
from isola.testing.log_files import FakeLogFiles
from isola.testing.mirrors import FakeMirrors
from isola.testing.mounts import FakeMounts
from isola.testing.namespaces import FakeNamespaces
from isola.testing.nodes import FakeNodes
from isola.testing.port_forwarder import FakePortForwarder, is_port_forwarder
from isola.testing.processes import FakeProcesses, Program
from isola.testing.recording import FakeRecorder, FakeRefusals
from isola.testing.sockets import FakeSockets
from isola.testing.subvolumes import FakeSubvolumes
from isola.testing.system import FakeSystem
from isola.testing.templates import FakeTemplates
from isola.testing.tree_quotas import FakeTreeQuotas


@dataclass(frozen=True, slots=True)
class FakeHost(Host):
    """A host whose ports have the types of the fakes, so that tests can inspect them."""

    processes: FakeProcesses
    mirrors: FakeMirrors
    mounts: FakeMounts
    guest_mounts: FakeGuestMounts
    links: FakeLinks
    firewall: FakeFirewall
    cgroups: FakeCgroups
    namespaces: FakeNamespaces
    nodes: FakeNodes
    id_ranges: FakeIdRanges
    files: FakeFiles
    log_files: FakeLogFiles
    subvolumes: FakeSubvolumes
    tree_quotas: FakeTreeQuotas
    archives: FakeArchives
    disk_images: FakeDiskImages
    templates: FakeTemplates
    sockets: FakeSockets
    http: FakeHttp
    clock: FakeClock
    system: FakeSystem
    recorder: FakeRecorder
    refusals: FakeRefusals
    published: FakePortForwarder
    """Not a port: the program that forwards published ports."""


def fake_host(
    *,
    programs: Mapping[str, Program] | None = None,
    system: FakeSystem | None = None,
    clock: FakeClock | None = None,
    layout: str = "unified",
    granted: Sequence[Extent] = (),
    files: FakeFiles | None = None,
) -> FakeHost:
    """A new host. Killing a control group ends its processes; sleeping advances the clock, unless one is given."""
    system = system or FakeSystem()
    links, files = FakeLinks(), files or FakeFiles()
    namespaces = FakeNamespaces(made=links.appear, removed=links.vanish)
    processes, sockets = FakeProcesses(programs), FakeSockets()
    ports, proxy = FakePortForwarder(processes, files, sockets), forwarder(processes, files, sockets)
    processes.programs.setdefault(
        Path(sys.executable).name, lambda call: (ports.program if is_port_forwarder(call) else proxy)(call)
    )
    cgroups = FakeCgroups(lambda pid: processes.kill(pid, signal.SIGKILL), layout=layout, cpus=system.cpu_count)
    guest_mounts = FakeGuestMounts(files)

    def leave_group(ended: ProcessRef) -> None:
        if processes.identify(ended.pid) is None:  # its PID has not been reused
            cgroups.left(ended.pid)

    for listener in (leave_group, namespaces.forget, guest_mounts.vanish):
        processes.when_ended(listener)
    return FakeHost(
        processes=processes,
        mirrors=FakeMirrors(files),
        mounts=FakeMounts(files),
        guest_mounts=guest_mounts,
        links=links,
        firewall=FakeFirewall(),
        cgroups=cgroups,
        namespaces=namespaces,
        nodes=FakeNodes(files),
        id_ranges=FakeIdRanges(granted),
        files=files,
        log_files=FakeLogFiles(),
        subvolumes=FakeSubvolumes(files),
        tree_quotas=FakeTreeQuotas(files),
        archives=FakeArchives(files),
        disk_images=FakeDiskImages(files),
        templates=FakeTemplates(),
        sockets=sockets,
        http=FakeHttp(files),
        clock=clock or FakeClock(skips=True),
        system=system,
        recorder=FakeRecorder(),
        refusals=FakeRefusals(),
        published=ports,
    )
