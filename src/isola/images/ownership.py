"""What of the content store a project may use without sending it: knowing a digest is not enough.

The blobs of all projects are in one store. A document that a client sends may name any of them, so a blob counts as
there only if an image or a repository of the same project has it, or a public image; otherwise it has to be sent.
"""

from __future__ import annotations

from collections.abc import Callable

from isola.model.image import Image

Owned = Callable[[str], bool]
"""Whether a blob, by its digest, may be used without being sent."""


def anything(digest: str) -> bool:
    """For the daemon's own work, whose digests come from records."""
    return True


def _nowhere(*facts: str) -> bool:
    return False


class Ownership:
    """Asks images and repositories."""

    def __init__(
        self, in_images: Callable[[str, str], bool], pulled_with: Callable[[str, str, str], bool] = _nowhere
    ) -> None:
        """``pulled_with``: whether a blob came with an image that a project has out of an index."""
        self._in_images = in_images
        self._pulled_with = pulled_with
        self.in_repositories: Callable[[str, str], bool] = _nowhere
        """Whether a repository of a project has a blob or manifest."""
        self.pushed_with: Callable[[str, str, str], bool] = _nowhere
        """Whether a blob or manifest was pushed to a repository of a project for an index there."""

    def owns(self, project: str, digest: str) -> bool:
        """Whether a project may use a blob."""
        return self._in_images(project, digest) or self.in_repositories(project, digest)

    def is_given_with(self, image: Image, digest: str) -> bool:
        """Whether a blob is one of another image of the same index, and not just named by that."""
        index = image.index
        return index != "" and (
            self._pulled_with(image.project, index, digest) or self.pushed_with(image.project, index, digest)
        )

    def of(self, project: str) -> Owned:
        """The same for one project."""
        return lambda digest: self.owns(project, digest)
