"""Deployments: new versions of instances, and the return to previous ones."""

from __future__ import annotations

from isola.client.operations import begin
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isola.client.api import Api
    from isola.client.operations import Operation

_ROOT = f"{ROOT}/isola/deployments"


class Deployments:
    """Each verb takes ``instances`` (names), or chooses them by ``filter`` or by the image they are ``made_from``."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def deploy(
        self,
        image: str,
        *,
        instances: Sequence[str] = (),
        filter: str = "",
        made_from: str = "",
        version: Mapping[str, object] | None = None,
        terms: Mapping[str, object] | None = None,
    ) -> Operation:
        """Let a version made from ``image`` (alias or fingerprint) serve, when it is healthy.

        ``version``: ``config``, ``devices``, ``profiles``, ``description``, ``program``, ``isolation``, ``runtime`` in
        place of those of the version before it. ``terms``: ``strategy``, ``timeout``, ``settle``, ``drain``,
        ``stop_timeout``, ``waves``, ``parallel``.
        """
        body = {**(version or {}), "source": {"type": "image", "alias": image}}
        return self._begin("deploy", body, terms, instances, filter, made_from)

    def rollback(
        self,
        *,
        instances: Sequence[str] = (),
        filter: str = "",
        made_from: str = "",
        terms: Mapping[str, object] | None = None,
    ) -> Operation:
        """Let the previous version serve again; of several, of those that were deployed last. ``terms`` as above."""
        return self._begin("rollback", {}, terms, instances, filter, made_from)

    def _begin(  # noqa: PLR0917 - the parts of one request
        self,
        action: str,
        body: Mapping[str, object],
        terms: Mapping[str, object] | None,
        instances: Sequence[str],
        filter: str,
        made_from: str,
    ) -> Operation:
        chosen = {"instances": list(instances), "filter": filter, "made_from": made_from}
        whole = {"action": action, **body, **(terms or {}), **{key: value for key, value in chosen.items() if value}}
        return begin(self._client, "POST", _ROOT, whole)
