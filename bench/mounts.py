"""Root file systems for subjects without an image store: an overlay over the unpacked image."""

import shutil
from pathlib import Path

from bench.images import Images
from bench.shell import run


class Roots:
    """Unpacked images and the overlays made of them."""

    def __init__(self, directory: Path, images: Images) -> None:
        self._directory = directory
        self._lower = {image: images.unpacked(image, directory / "lower" / image) for image in ("debian", "tiny")}

    def make(self, image: str, name: str) -> Path:
        """A writable root of an image."""
        place = self._directory / "roots" / name
        for part in ("upper", "work", "root"):
            (place / part).mkdir(parents=True)
        options = f"lowerdir={self._lower[image]},upperdir={place / 'upper'},workdir={place / 'work'}"
        run(["mount", "-t", "overlay", "-o", options, "overlay", str(place / "root")])
        return place / "root"

    def drop(self, name: str) -> None:
        """Remove one again."""
        place = self._directory / "roots" / name
        run(["umount", str(place / "root")])
        shutil.rmtree(place)
