"""Containers in lists: their JSON is kept as long as nothing changes on which it depends."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from isola.doors.docker.containers.summary import Named, images_by_name, summary
from isola.doors.docker.containers.view import View, refreshed, view
from isola.doors.docker.identity import containers_of
from isola.doors.docker.networks.links import aliases_of
from isola.doors.docker.request import Request
from isola.doors.http.json import dumps

_SCOPES = 4
"""Versions of the API and projects of which lines are kept at the same time."""


@dataclass(slots=True)
class _Kept:
    view: View
    aliases: Sequence[str] = ()
    data: bytes = b""
    """All but the status, without the last brace; empty until a list has it."""
    status: str = ""
    whole: bytes = b""
    """With the status."""


class KeptLines:
    """Those of one daemon, by the ids of instances."""

    def __init__(self) -> None:
        self._scopes: dict[Hashable, dict[str, _Kept]] = {}
        self._surroundings: Hashable = ()

    def of(self, request: Request) -> dict[str, _Kept]:
        """Those of the request's project and version that are still right, apart from changes of the container."""
        services, scope = request.services, (request.project, request.version)
        now = (
            services.images.generation,
            services.networks.generation,
            services.volumes.generation,
            services.profiles.generation,
            services.projects.generation,
            services.server.revision,
        )
        if now != self._surroundings or (scope not in self._scopes and len(self._scopes) >= _SCOPES):
            self._scopes.clear()
            self._surroundings = now
        return self._scopes.setdefault(scope, {})


class Lines:
    """The containers of one request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._kept = request.lines.of(request)

    def views(self) -> Iterator[View]:
        """All, the newest first."""
        found = sorted(containers_of(self._request), key=lambda each: each.created_at, reverse=True)
        for id in self._kept.keys() - {each.id for each in found}:
            del self._kept[id]
        for instance in found:
            kept = self._kept.get(instance.id)
            # A record is never changed in place, so that the same object is the same revision.
            if kept is not None and kept.view.instance is instance:
                yield refreshed(self._request, kept.view)
            else:
                seen = view(self._request, instance)
                self._kept[instance.id] = _Kept(seen)
                yield seen

    def joined(self, chosen: Sequence[View], sizes: Sequence[Mapping[str, int]] = ()) -> bytes:
        """The JSON of a list; ``sizes``: further fields of each."""
        aliases, named = aliases_of(self._request), images_by_name(self._request)
        parts = [self._line(seen, aliases.get(seen.instance.id, ()), named) for seen in chosen]
        if sizes:
            parts = [part[:-1] + b"," + dumps(more)[1:] for part, more in zip(parts, sizes, strict=True)]
        return b"[" + b",".join(parts) + b"]"

    def _line(self, seen: View, names: Sequence[str], named: Named) -> bytes:
        kept, status = self._kept.setdefault(seen.instance.id, _Kept(seen)), seen.status
        if not kept.data or kept.view.state != seen.state or kept.aliases != names:
            kept.view, kept.aliases, kept.status = seen, names, ""
            kept.data = dumps(summary(self._request, seen, named, names))[:-1]
        if kept.status != status:
            kept.status, kept.whole = status, kept.data + b',"Status":' + dumps(status) + b"}"
        return kept.whole
