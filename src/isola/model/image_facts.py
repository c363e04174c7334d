"""Facts of an image that clients may change for an instance, for an image made of it later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """``metadata.yaml`` without templates. Times are seconds since 1970; 0 for none."""

    architecture: str = ""
    creation_date: int = 0
    expiry_date: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)
