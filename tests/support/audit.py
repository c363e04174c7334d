"""Compare the objects of a daemon on the host with its records."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from daemon import TIMEOUT_FACTOR, ApiError, Daemon

from isola.model.image import chain_ids

_ID = re.compile(r"\b[0-9a-f]{16}\b")


def records(daemon: Daemon, noun: str) -> dict[str, dict[str, Any]]:
    """The records of a noun on disk, by name; images by fingerprint."""
    database = sqlite3.connect(f"file:{daemon.directory}/isola.db?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT key, value FROM entries WHERE key LIKE ?", (f"/{noun}/%",)).fetchall()
    finally:
        database.close()
    found = {key.removeprefix(f"/{noun}/").removeprefix("default/"): json.loads(value) for key, value in rows}
    return {record["fingerprint"]: record for record in found.values()} if noun == "images" else found


def differences(daemon: Daemon, frozen: Collection[str] = ()) -> list[str]:
    """Surplus and missing objects on the host, as strings; empty if host and records agree.

    ``frozen``: names of instances that are expected to be frozen.
    """
    found: list[str] = []
    instances = records(daemon, "instances")
    recorded = {record["id"] for record in instances.values()}
    running = {record["id"] for record in instances.values() if record["desired"] == "running"}

    # An incomplete deletion is recorded as begun: its remaining objects belong to it until it is complete.
    doomed = {record["id"] for record in instances.values() if record["desired"] == "deleted"}
    doomed |= {daemon.names.veth(id, "eth0") for id in doomed}
    doomed |= _ends(daemon, (one for one in instances.values() if one["id"] in doomed))

    def compare(what: str, seen: set[str], expected: set[str]) -> None:
        seen, expected = seen - doomed, expected - doomed
        if seen - expected:
            found.append(f"{what} too many: {sorted(seen - expected)}")
        if expected - seen:
            found.append(f"{what} missing: {sorted(expected - seen)}")

    volumes = daemon.directory / "pools" / "default" / "volumes"
    compare("volumes", _names(volumes), recorded)
    mounted = _ids(daemon.mounts(), str(volumes.parent / "mounts"))
    compare("roots mounted", {id for id in mounted if "@" not in id}, running)  # volumes are mounted for each holder
    compare("run directories", _names(daemon.directory / "run"), running)
    compare("cgroups", {id for path in daemon.cgroups() for id in _ID.findall(path)}, running)
    kept = records(daemon, "instance-snapshots").values()
    begun = {record["id"] for record in kept if not record["ready"]}
    on_host = {path.name for path in volumes.glob("*/snapshots/*") if path.parent.parent.name not in doomed}
    compare("snapshots", on_host - begun, {record["id"] for record in kept} - begun)
    compare("frozen", {name for name in instances if daemon.status(name) == "Frozen"}, set(frozen))
    monitors = [argv for argv in daemon.host_processes().values() if "conmon" in argv.split()[0]]
    compare("monitors", {id for argv in monitors for id in _ID.findall(argv)}, running)
    veths = {daemon.names.veth(id, "eth0") for id in running}
    veths |= _ends(daemon, (one for one in instances.values() if one["id"] in running))
    compare(
        "links", {link for link in daemon.links() if link.startswith(daemon.names.short) and "-" not in link}, veths
    )
    hosts = daemon.directory / "networks" / "isolabr0" / "nics" / "hosts.d"
    entries = {daemon.names.veth(id, "eth0") for id in running}
    known = _ends(daemon, (one for one in instances.values() if one["id"] in running), networks=True)
    compare("DHCP entries", _names(hosts), entries | known)
    found += _devices(daemon, {n: one for n, one in instances.items() if one["id"] in running - doomed})
    found += _images(daemon)
    found += _states(daemon, instances)
    return found


def _states(daemon: Daemon, instances: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{name} is {daemon.status(name)}, its record says {record['desired']}"
        for name, record in instances.items()
        if record["desired"] != "deleted"
        and (daemon.status(name) in ("Running", "Frozen")) != (record["desired"] == "running")
    ]


def _ends(daemon: Daemon, instances: Iterable[dict[str, Any]], *, networks: bool = False) -> set[str]:
    """The host's ends of attached NICs, by the records; with ``networks``, only those on managed networks."""
    own = ("p2p", "routed")
    return {
        daemon.names.veth(record["id"], name)
        for record in instances
        for name, state in record["plugged"].items()
        if state["kind"] == "nic"
        and ("network" in state["facts"] or (not networks and state["config"].get("nictype") in own))
    }


_PLACES = {"/here", "/scratch", "/data", "/dev/host-fuse", "/dev/host-block"}
"""Paths inside at which tests attach devices."""
_FILTERED = {
    "security.mac_filtering",
    "security.ipv4_filtering",
    "security.ipv6_filtering",
    "limits.egress",
    "limits.max",
}


def _devices(daemon: Daemon, running: dict[str, dict[str, Any]]) -> list[str]:
    """Surplus or missing mounts and links inside, forwarders and tables of running instances."""
    found: list[str] = []
    forwarders: set[str] = set()
    published: set[str] = set()
    tables: set[str] = set()
    for instance, record in running.items():
        found += _inside(daemon, instance, record)
        for name, state in record["plugged"].items():
            config = state["config"]
            if config.get("nat") == "true" or config.get("nictype") == "routed" or _FILTERED & set(config):
                tables.add(daemon.names.device_table(record["id"], name))
            if state["kind"] == "proxy":
                (published if config.get("nat") == "true" else forwarders).add(f"{record['id']}/{name}")
    lines = [line for line in daemon.host_processes().values() if "isola.host.forwarder" in line]
    seen = {line.split()[-1] for line in lines}
    found += [f"forwarders {sorted(seen)}, not {sorted(forwarders)}"] if seen != forwarders else []
    listening = publishing(daemon)
    found += [f"published {sorted(listening)}, not {sorted(published)}"] if listening != published else []
    here = {line.split()[-1] for line in daemon.tables()}
    here = {name for name in here if name.startswith(f"{daemon.names.tag}.")}
    return found + ([f"tables {sorted(here)}, not {sorted(tables)}"] if here != tables else [])


@contextlib.contextmanager
def holding(directory: Path) -> Iterator[int]:
    """A descriptor of it: the path of a socket may be too long."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def publishing(daemon: Daemon) -> set[str]:
    """Owners of published ports, as the process that forwards them says."""
    if not any("isola.host.published" in line for line in daemon.host_processes().values()):
        return set()
    with holding(daemon.directory / "ports") as place, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        try:
            asking.connect(f"/proc/self/fd/{place}/control")
        except (ConnectionRefusedError, FileNotFoundError):  # it begins or ends at this moment
            return set()
        asking.sendall(b"list\n")
        text = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
    return {line.split("\t")[1] for line in text.splitlines() if line.startswith("listen\t")}


def _inside(daemon: Daemon, instance: str, record: dict[str, Any]) -> list[str]:
    """Surplus or missing mounts of devices and links inside."""
    process, plugged = Path(f"/proc/{daemon.pid(instance)}"), record["plugged"]
    if record["runtime"] == "qemu_unikernel":  # it has no agent
        return []
    try:
        if record["runtime"].startswith("qemu"):  # the guest has what its hypervisor does not show
            if daemon.status(instance) != "Running":
                return []
            status, shown, _ = daemon.exec(instance, "sh", "-c", "cat /proc/mounts; echo; cat /proc/net/dev")
            assert status == 0
            mounted, _, linked = shown.partition("\n\n")
        else:
            mounted, linked = (process / "mounts").read_text(), (process / "net/dev").read_text()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EINVAL):  # EINVAL: the process is a zombie
            raise
        return []  # it does not run: reported elsewhere
    except ApiError as error:  # it ends at this moment
        return [f"inside: {error}"]
    mounts = {line.split()[1] for line in mounted.splitlines()}
    links = {line.split(":")[0].strip() for line in linked.splitlines()[2:]}
    kinds = ("disk", "unix-char", "unix-block")
    places = {state["config"]["path"] for state in plugged.values() if state["kind"] in kinds and state["config"]}
    wanted = {state["facts"].get("name", name) for name, state in plugged.items() if state["kind"] == "nic"}
    wrong = ((mounts & _PLACES) ^ (places & _PLACES)) | ((links - {"lo"}) ^ wanted)
    return [f"inside too much or missing: {sorted(wrong)}"] if wrong else []


def settled(daemon: Daemon, seconds: float = 60, *, frozen: Collection[str] = ()) -> list[str]:
    """Differences that persist for a while (cleanup after an end takes a moment)."""
    end = time.monotonic() + seconds * TIMEOUT_FACTOR
    while (found := differences(daemon, frozen)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _images(daemon: Daemon) -> list[str]:
    """Blobs, index entries, unpacked layers and temporary files that nothing needs, or that an image lacks."""
    store = daemon.directory / "images"
    blobs = store / "blobs" / "sha256"
    images = records(daemon, "images").values()
    roots = {image[kind].removeprefix("sha256:") for image in images for kind in ("manifest", "artifact")} - {""}
    texts = [(blobs / root).read_text() for root in roots & _names(blobs)]
    needed = roots | {digest for text in texts for digest in parts_of(json.loads(text))}
    index = json.loads((store / "index.json").read_text())["manifests"]
    listed = {entry["digest"].removeprefix("sha256:") for entry in index}
    found = [f"scratch file: {name}" for name in _names(store / "scratch")]
    found += [f"index names what no image is: {name}" for name in listed - roots]
    wanted = {layer["digest"].removeprefix("sha256:") for image in images for layer in image["layers"]}
    chains = (chain_ids([layer["diff_id"] for layer in image["layers"]]) for image in images)
    wanted |= {chain.removeprefix("sha256:") for chain in itertools.chain(*chains)}
    for record in records(daemon, "instances").values():
        digests = [*record["start"]["layers"], *(layer["digest"] for layer in record["start"]["blobs"])]
        wanted |= {digest.removeprefix("sha256:") for digest in digests}
    for result in records(daemon, "build-results").values():
        digests = [*result["chain"], *([result["layer"]["digest"]] if result["layer"] else [])]
        wanted |= {digest.removeprefix("sha256:") for digest in digests}
    pushed = [*records(daemon, "repository-blobs").values(), *records(daemon, "repository-manifests").values()]
    needed |= {record["digest"].removeprefix("sha256:") for record in pushed}
    found += _temporary(daemon)
    found += [f"blob missing: {name}" for name in needed - _names(blobs)]
    marked = {digest for each in records(daemon, "intents").values() for digest in each["digests"]}
    for name in _names(blobs) - needed - wanted:
        found.append(f"blob too many: {name}{', to be swept' if f'sha256:{name}' in marked else ''}")
    unpacked = _names(daemon.directory / "pools" / "default" / "layers")
    return found + [f"layer too many: {name}" for name in unpacked - wanted]


def parts_of(document: dict[str, Any]) -> set[str]:
    """Blobs that a manifest or index refers to: inline caches, which are annotations, have diff ids of layers too."""
    parts = [*document.get("manifests", ()), *document.get("layers", ())]
    parts += [document[name] for name in ("config", "subject") if name in document]
    return {part["digest"].removeprefix("sha256:") for part in parts}


def _temporary(daemon: Daemon) -> list[str]:
    """Files of transfers that no record of a transfer names, and directories of builds."""
    store, begun = daemon.directory / "images", records(daemon, "intents")
    known = {digest for each in begun.values() for digest in each["digests"]} | set(begun)
    known |= {fact for each in begun.values() for fact in each["facts"].values()}
    names = {part for each in known for part in (each, each.partition(":")[2], each.rpartition("-")[2])}
    found = [f"{kind} of nothing: {name}" for kind in ("partial", "uploads") for name in _names(store / kind) - names]
    return found + [f"build directory: {name}" for name in _names(daemon.directory / "builds") - {"cache"}]


def _names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()


def _ids(paths: list[str], below: str) -> set[str]:
    return {path.removeprefix(f"{below}/").split("/")[0] for path in paths if path.startswith(f"{below}/")}
