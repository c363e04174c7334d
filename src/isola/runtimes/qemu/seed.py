"""The disk that a virtual machine gets at each start: the agent, and a seed for cloud-init. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from isola.host.media.fat import fat
from isola.model.agent_service import SEED_AGENT, SEED_LABEL

_SERIAL = 0x150_1A
_EMPTY = {"user-data": "#cloud-config\n{}\n", "meta-data": "{}\n"}
"""Without both, cloud-init takes the disk for none of its own."""


def disk(texts: Mapping[str, str], agent: bytes) -> bytes:
    """Its whole content: ``RunSpec.seed`` and the program."""
    files = {path: text.encode() for path, text in (_EMPTY | dict(texts)).items()}
    return fat(SEED_LABEL, files | {SEED_AGENT: agent}, serial=_SERIAL).whole()
