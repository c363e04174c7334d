"""Certificates of clients: adding, changing and removing them, and identifying the callers that present them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from isola.errors import AlreadyExists, InvalidInput, NotFound
from isola.events import Events
from isola.model.caller import DAEMON, Caller, Credential
from isola.model.certificate import Certificate, CertificateType
from isola.model.reference import Entity, Kind
from isola.state import Collection

if TYPE_CHECKING:
    from isola.x509 import Parsed

_NAME_LIMIT = 255
_PROJECTS_LIMIT = 1000


class Certificates:
    """The trust store. ``now`` is used to check validity periods, ``known_project`` to check names of projects.

    A certificate can name existing projects only, so that it gives no access to a later project of the same name.
    """

    def __init__(
        self,
        records: Collection[Certificate],
        events: Events,
        now: Callable[[], datetime],
        known_project: Callable[[str], bool],
    ) -> None:
        self._known_project = known_project
        self._records = records
        self._events = events
        self._now = now
        self._parsed: dict[str, Parsed] = {}
        self.distrusted: Callable[[str], object] = lambda fingerprint: None
        """Called with a certificate that has lost permissions or was removed, so that the door closes its
        connections.
        """

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self._records)

    def find(self, prefix: str) -> Certificate:
        """By fingerprint or a unique prefix of it. Raises NotFound, InvalidInput."""
        wanted = prefix.lower()
        if (exact := self._records.find(wanted)) is not None:
            return exact
        found = [each for each in self._records if wanted and each.fingerprint.startswith(wanted)]
        if len(found) > 1:
            raise InvalidInput(
                f"{prefix[:80]!r} matches several certificates", field="fingerprint", remedy="use a longer prefix"
            )
        if not found:
            raise NotFound(f"Certificate {prefix[:80]!r} not found")
        return found[0]

    def caller(self, fingerprint: str, address: str) -> Caller:
        """The caller that presents a certificate with this fingerprint; the handshake has verified possession of its
        key.
        """
        known = self._records.find(fingerprint)
        if known is None or known.type != CertificateType.CLIENT or not self._good(known):
            return Caller(Credential.NONE, fingerprint, address, trusted=False)
        projects = frozenset(known.projects) if known.restricted else None
        return Caller(Credential.CERTIFICATE, fingerprint, address, projects)

    async def add(self, certificate: Certificate, *, caller: Caller = DAEMON) -> Certificate:
        """Add a client's certificate. Raises InvalidInput, AlreadyExists."""
        checked = self._checked(certificate)
        try:
            await self._records.add(checked.fingerprint, checked)
        except AlreadyExists:
            # Clients of LXD look for exactly this text.
            raise AlreadyExists("Certificate already in trust store") from None
        self._tell("created", checked, caller)
        return checked

    async def update(
        self, fingerprint: str, decide: Callable[[Certificate], Certificate], *, caller: Caller = DAEMON
    ) -> Certificate:
        """Replace the record; if the certificate itself is replaced, the fingerprint changes.

        Raises NotFound, InvalidInput, AlreadyExists, PreconditionFailed, and what ``decide`` raises.
        """
        held = self._records.read(fingerprint)
        wanted = self._checked(decide(held.value))
        if wanted.fingerprint == fingerprint:
            await self._records.put(fingerprint, wanted, at=held.revision)
        else:
            await self._records.rename(fingerprint, wanted.fingerprint, wanted, at=held.revision)
        self._lose(fingerprint)
        self._tell("updated", wanted, caller)
        return wanted

    async def remove(
        self,
        fingerprint: str,
        allow: Callable[[Certificate], object] = lambda found: None,
        *,
        caller: Caller = DAEMON,
    ) -> None:
        """Remove it and close its connections. Raises NotFound, and the errors of ``allow``."""
        gone = self._records.get(fingerprint)
        await self._records.remove(fingerprint, allow)
        self._lose(fingerprint)
        self._tell("deleted", gone, caller)

    async def open(self) -> None:
        """At daemon start: revoke access to projects whose deletion was interrupted by a kill of the daemon."""
        for name in {name for each in self._records for name in each.projects}:
            if not self._known_project(name):
                await self.project_deleted(name)

    async def project_deleted(self, name: str) -> None:
        """Revoke access to a project's name from all certificates, until it is granted again."""
        await self._change_projects(name, ())

    async def project_renamed(self, name: str, new: str) -> None:
        """Keep the access of certificates to a renamed project."""
        await self._change_projects(name, (new,))

    async def _change_projects(self, name: str, instead: tuple[str, ...]) -> None:
        for fingerprint in [each.fingerprint for each in self._records if name in each.projects]:
            await self._records.change(fingerprint, lambda found: _exchanged(found, name, instead))
            self.distrusted(fingerprint)

    def _lose(self, fingerprint: str) -> None:
        self._parsed.pop(fingerprint, None)
        self.distrusted(fingerprint)

    def _checked(self, certificate: Certificate) -> Certificate:
        """The record with the fingerprint and, if none is given, the name taken from the certificate itself."""
        found = _parse(certificate.certificate)
        if not found.valid(self._now()):
            raise InvalidInput(
                "The certificate is not valid now",
                evidence=f"it is valid from {found.begins:%Y-%m-%d} to {found.ends:%Y-%m-%d}",
                field="certificate",
            )
        if certificate.type not in tuple(CertificateType):
            raise InvalidInput(
                f"Unknown type {str(certificate.type)[:40]!r}", field="type", remedy=f"use {', '.join(CertificateType)}"
            )
        name = _name(certificate.name or found.common_name or found.fingerprint[:12])
        return dataclasses.replace(
            certificate,
            fingerprint=found.fingerprint,
            certificate=found.pem,
            name=name,
            projects=self.checked_projects(certificate.projects),
            created_at=certificate.created_at or self._now(),
        )

    def checked_projects(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Without duplicates. Raises InvalidInput for an unknown project."""
        if len(names) > _PROJECTS_LIMIT:
            raise InvalidInput("Too many projects", field="projects", remedy=f"at most {_PROJECTS_LIMIT}")
        for name in names:
            if not self._known_project(name):
                raise InvalidInput(f"Project {name[:80]!r} not found", field="projects")
        return tuple(dict.fromkeys(names))

    def _good(self, known: Certificate) -> bool:
        parsed = self._parsed.get(known.fingerprint)
        if parsed is None:
            parsed = self._parsed[known.fingerprint] = _parse(known.certificate)
        return parsed.valid(self._now())

    def _tell(self, verb: str, certificate: Certificate, caller: Caller) -> None:
        source = Entity.of_host(Kind.CERTIFICATE, certificate.fingerprint)
        self._events.lifecycle(f"certificate-{verb}", source, caller=caller)


def _parse(text: str) -> Parsed:
    from isola.x509 import parse  # a daemon without a network port needs no cryptography

    return parse(text)


def _name(text: str) -> str:
    if len(text) > _NAME_LIMIT or not text.isprintable():
        raise InvalidInput("The name of a certificate is one line of at most 255 characters", field="name")
    return text


def _exchanged(found: Certificate, name: str, instead: tuple[str, ...]) -> Certificate:
    kept: list[str] = []
    for each in found.projects:
        kept += instead if each == name else (each,)
    return dataclasses.replace(found, projects=tuple(dict.fromkeys(kept)))
