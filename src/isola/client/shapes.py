"""Types of the API's objects for type checkers; at run time they are plain dictionaries."""

from __future__ import annotations

from typing import TypedDict


class OperationInfo(TypedDict, total=False):
    id: str
    description: str
    status: str
    status_code: int
    created_at: str
    updated_at: str
    resources: dict[str, list[str]] | None
    metadata: dict[str, object] | None
    may_cancel: bool
    err: str
    location: str


class StepInfo(TypedDict, total=False):
    """One step in an operation's ``metadata.progress``."""

    name: str
    done: int
    total: int | None
    unit: str
    finished: bool
    depth: int


class AddressInfo(TypedDict, total=False):
    """One address of an interface."""

    family: str
    address: str
    netmask: str
    scope: str


class InterfaceInfo(TypedDict, total=False):
    """An interface of an instance."""

    addresses: list[AddressInfo]
    counters: dict[str, int]
    hwaddr: str
    host_name: str
    mtu: int
    state: str
    type: str


class StateInfo(TypedDict, total=False):
    """State of a running or stopped instance."""

    status: str
    status_code: int
    pid: int
    processes: int
    cpu: dict[str, int]
    memory: dict[str, int]
    disk: dict[str, dict[str, int]] | None
    network: dict[str, InterfaceInfo] | None
    health: dict[str, object] | None


class LastRunInfo(TypedDict, total=False):
    """How the last run ended."""

    exit_status: int
    oom_killed: bool
    error: str
    started_at: str | None
    finished_at: str | None
    restarts: int


class ProcessTable(TypedDict):
    """As ``ps`` shows them."""

    titles: list[str]
    rows: list[list[str]]


class StatisticsInfo(TypedDict):
    """What a running instance uses: bytes, nanoseconds."""

    at: str
    cpu: dict[str, int]
    memory: dict[str, int]
    processes: dict[str, int]
    network: dict[str, dict[str, int]]
    disks: list[dict[str, int]]


class InstanceInfo(TypedDict, total=False):
    """An instance; ``state`` only if it was requested."""

    name: str
    status: str
    status_code: int
    type: str
    isolation: str
    program: dict[str, object]
    runtime: str
    wall: dict[str, object]
    architecture: str
    description: str
    config: dict[str, str]
    devices: dict[str, dict[str, str]]
    expanded_config: dict[str, str]
    expanded_devices: dict[str, dict[str, str]]
    profiles: list[str]
    ephemeral: bool
    created_at: str
    last_used_at: str
    project: str
    location: str
    state: StateInfo | None
    last_run: LastRunInfo | None
    snapshots: list[dict[str, object]] | None


class SnapshotInfo(TypedDict, total=False):
    """A snapshot of an instance."""

    name: str
    created_at: str
    expires_at: str
    stateful: bool
    size: int
    config: dict[str, str]
    devices: dict[str, dict[str, str]]
    profiles: list[str]


class AliasInfo(TypedDict, total=False):
    """A name of an image."""

    name: str
    description: str
    target: str
    type: str


class ImageInfo(TypedDict, total=False):
    fingerprint: str
    aliases: list[AliasInfo]
    properties: dict[str, str]
    architecture: str
    size: int
    type: str
    public: bool
    cached: bool
    auto_update: bool
    filename: str
    profiles: list[str]
    created_at: str
    uploaded_at: str
    last_used_at: str
    expires_at: str


class NetworkInfo(TypedDict, total=False):
    name: str
    type: str
    managed: bool
    status: str
    description: str
    config: dict[str, str]
    used_by: list[str]


class LeaseInfo(TypedDict, total=False):
    """An address in use on a network."""

    hostname: str
    hwaddr: str
    address: str
    type: str


class PoolInfo(TypedDict, total=False):
    """A storage pool."""

    name: str
    driver: str
    status: str
    description: str
    config: dict[str, str]
    used_by: list[str]


class VolumeInfo(TypedDict, total=False):
    """A storage volume."""

    name: str
    type: str
    content_type: str
    description: str
    config: dict[str, str]
    created_at: str
    pool: str
    project: str
    used_by: list[str]


class VolumeSnapshotInfo(TypedDict, total=False):
    """A snapshot of a storage volume."""

    name: str
    description: str
    config: dict[str, str]
    content_type: str
    created_at: str
    expires_at: str


class ProfileInfo(TypedDict, total=False):
    name: str
    description: str
    config: dict[str, str]
    devices: dict[str, dict[str, str]]
    used_by: list[str]


class LearnedInfo(TypedDict):
    system_calls: list[str]
    capabilities: list[str]
    written: list[str]
    opened: list[str]
    ports: list[str]
    listens: list[str] | None
    connects: list[str] | None
    notes: list[str]
    config: dict[str, str]


class ServerInfo(TypedDict, total=False):
    """The daemon and its host."""

    api_version: str
    api_extensions: list[str]
    auth: str
    config: dict[str, str]
    environment: dict[str, object]


class EventInfo(TypedDict, total=False):
    """An event; ``metadata`` depends on its type."""

    type: str
    timestamp: str
    project: str
    metadata: dict[str, object]
