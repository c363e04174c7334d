"""The configuration of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from isola.errors import InvalidInput
from isola.host.threads import in_thread
from isola.images.archive_limits import ARCHIVE_SETTINGS
from isola.images.build_limits import BUILD_SETTINGS
from isola.images.registry.settings import SETTINGS as REGISTRY_SETTINGS
from isola.model.endpoint import endpoint
from isola.model.expiry import expiry
from isola.model.names import plain_name
from isola.model.units import parse_size
from isola.passwords import hashed
from isola.settings import Setting, Settings, boolean, text, whole
from isola.state import Collection

HTTPS_PORT = 8443
TRUST_PASSWORD = "core.trust_password"
ANONYMOUS_PULL = "registry.anonymous_pull"
PRIVILEGED = "security.privileged"
UPLOAD_LIMIT = "registry.upload_limit"
_KEPT = "true"
"""What the password is shown as: a client that sends it back leaves it as it is."""
_SHORTEST, _LONGEST = 8, 1024
Config = Mapping[str, str]
Apply = Callable[[Config, Config], Awaitable[None]]
"""Apply a change from the first to the second configuration, or raise without having changed anything."""


def _https_address(value: str) -> object:
    return endpoint(value, HTTPS_PORT)


def _name(value: str) -> object:
    try:
        return plain_name(value)
    except InvalidInput as error:
        raise ValueError(error.remedy) from error


SETTINGS = Settings(
    "server",
    Setting(
        "core.https_address",
        _https_address,
        "Address and port on which the API is served over TLS, as in `192.0.2.1:8443`, "
        "`[2001:db8::1]:8443` or, for all addresses, `:8443`. The default port is 8443; "
        "without this key there is no network port.",
        live=True,
    ),
    Setting(
        "core.remote_token_expiry",
        expiry,
        "Lifetime of tokens with which clients add their certificates, as in `1d` or `2H 30M`; "
        "by default they are valid until they are used or the daemon ends.",
        live=True,
    ),
    Setting(
        TRUST_PASSWORD,
        text,
        "Password by which clients of LXD 5.0 add their certificates, unrestricted; tokens are safer. "
        "It is stored hashed and shown as `true`.",
        live=True,
        expects="8 to 1024 characters",
    ),
    Setting(
        ANONYMOUS_PULL,
        boolean,
        "Whether clients of the registry can pull public images without a certificate or a login token.",
        "false",
        live=True,
    ),
    Setting(
        UPLOAD_LIMIT,
        parse_size,
        "Most bytes of all unfinished uploads to the registry together, and so of a blob.",
        "64GiB",
        live=True,
    ),
    Setting("core.shutdown_timeout", whole(0, 3600), "Accepted from clients of LXD; has no effect.", "5"),
    Setting(
        "docker.project",
        _name,
        "Project whose instances, images, networks and volumes clients of the Docker Engine API see and create.",
        "default",
        live=True,
        expects="a name",
    ),
    Setting(
        "docker.pool",
        _name,
        "Storage pool of the volumes that clients of the Docker Engine API see and create; by default that of the "
        "root device of the profile `default`.",
        live=True,
        expects="a name",
    ),
    *ARCHIVE_SETTINGS,
    *BUILD_SETTINGS,
    Setting(
        PRIVILEGED,
        boolean,
        "Whether projects that are not restricted may have instances that reach the host: privileged ones, and those "
        "in namespaces of the host or with all its devices.",
        "false",
        live=True,
    ),
    Setting("images.default_architecture", text, "Accepted from clients of LXD; has no effect."),
    *REGISTRY_SETTINGS,
    Setting("user.*", text, "User-defined, not interpreted."),
)


class Server:
    """Server configuration: one record."""

    def __init__(
        self,
        records: Collection[Mapping[str, str]],
        copy: Callable[[], Awaitable[bytes]],
        salt: Callable[[], str],
    ) -> None:
        self._records = records
        self._salt = salt
        self._turn = asyncio.Lock()
        self.appliers: list[Apply] = []
        """Called in turn before a new configuration is recorded; if one raises, the others are reverted."""
        self.copy_state = copy
        """Returns a consistent copy of the database, which ``isolad --recover`` can restore."""

    @property
    def config(self) -> Mapping[str, str]:
        """The keys that are set."""
        return self._records.find("config") or {}

    @property
    def shown(self) -> Mapping[str, str]:
        """The same without secrets. All values are strings: clients of Incus can read nothing else."""
        return {key: _KEPT if key == TRUST_PASSWORD else value for key, value in self.config.items()}

    def setting(self, key: str) -> str:
        """A key's value, or its default."""
        row = SETTINGS.find(key)
        return self.config.get(key) or (row.default if row is not None else None) or ""

    @property
    def revision(self) -> int:
        """Changes with every write."""
        return self._records.revision("config")

    async def update(self, decide: Callable[[Config], Config]) -> None:
        """Replace the whole configuration by the result of ``decide`` for the current one, and apply it.

        Raises InvalidInput, and the errors of ``decide`` and the appliers; then nothing has changed.
        """
        async with self._turn:
            before, at = self.config, self.revision
            wanted = {key: value for key, value in decide(before).items() if value}
            SETTINGS.validate(wanted)
            await self._seal(before, wanted)
            if wanted == before and at:
                return
            async with AsyncExitStack() as undo:
                for apply in self.appliers:
                    await apply(before, wanted)
                    undo.push_async_callback(apply, wanted, before)
                await self._records.put("config", wanted, at=at)
                undo.pop_all()

    async def _seal(self, before: Config, wanted: dict[str, str]) -> None:
        """Put the hash in the place of a new password. Raises InvalidInput."""
        password, stored = wanted.get(TRUST_PASSWORD), before.get(TRUST_PASSWORD, "")
        if password is None or (stored and password == stored):
            return
        if password == _KEPT and stored:
            wanted[TRUST_PASSWORD] = stored
            return
        if not _SHORTEST <= len(password) <= _LONGEST:
            raise InvalidInput(
                f"The trust password must have {_SHORTEST} to {_LONGEST} characters",
                field=f"config.{TRUST_PASSWORD}",
                remedy="choose a longer one, or use tokens",
            )
        wanted[TRUST_PASSWORD] = await in_thread(lambda: hashed(password, self._salt()))
