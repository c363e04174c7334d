"""Doors: the network protocols of the daemon. Each translates requests into calls of use cases, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isola.builds import Builds
from isola.certificates import Certificates, Identity, LoginTokens, Tokens, TrustPassword
from isola.events import Events
from isola.host import Host
from isola.images import ImageLibrary
from isola.images.repositories import Repositories
from isola.instances import Instances
from isola.model.identity import HostNames
from isola.network import Networks, NetworkVerbs
from isola.operations import Operations
from isola.profiles import Profiles
from isola.projects import Projects
from isola.runtimes import Runtimes
from isola.server import Server
from isola.storage import Pools, PoolVerbs, Volumes
from isola.warnings import Warnings


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases that the composition root passes to every door."""

    directory: Path
    names: HostNames
    host: Host
    server: Server
    identity: Identity
    certificates: Certificates
    tokens: Tokens
    login_tokens: LoginTokens
    trust_password: TrustPassword
    operations: Operations
    events: Events
    instances: Instances
    images: ImageLibrary
    repositories: Repositories
    networks: Networks
    network_verbs: NetworkVerbs
    pools: Pools
    pool_verbs: PoolVerbs
    volumes: Volumes
    profiles: Profiles
    projects: Projects
    runtimes: Runtimes
    warnings: Warnings
    builds: Builds
