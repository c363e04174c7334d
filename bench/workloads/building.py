"""Builds from a Dockerfile, by docker's command line."""

import random
import shutil
from pathlib import Path
from typing import Any, ClassVar

from bench.dockerlike import IMAGE
from bench.workload import Workload, milliseconds

ORDER = 82
NAME = "bench/built"
DOCKERFILE = f"""\
FROM {IMAGE}
COPY files /srv/files
ENV GREETING=hello
RUN echo "$GREETING" > /srv/greeting
CMD ["/bin/sh"]
"""
_FILES, _SIZE = 20, 7_000


class _Build(Workload):
    """Five instructions, and 20 files of 7 kB."""

    needs = ("image_build", "image_remove", "import_container_image")
    targets: ClassVar = {"docker": 0.6}
    samples = 3
    cached: ClassVar[bool]

    def prepare(self, subject: Any) -> None:
        """Write the context."""
        files = _context(subject) / "files"
        files.mkdir(parents=True)
        source = random.Random(1)
        for number in range(_FILES):
            (files / f"{number}.bin").write_bytes(source.randbytes(_SIZE))
        (_context(subject) / "Dockerfile").write_text(DOCKERFILE)

    def sample(self, subject: Any) -> float:
        """Build."""
        return milliseconds(lambda: subject.image_build(_context(subject), NAME, cached=self.cached))

    def finish(self, subject: Any) -> None:
        """Remove the image and the context."""
        shutil.rmtree(_context(subject), ignore_errors=True)
        subject.image_remove(NAME)


class Cold(_Build):
    """Without the cache."""

    name = "build-cold"
    title = "docker build of 5 instructions, without the cache"
    cached = False


class Cached(_Build):
    """Every step is in the cache; the first sample, which fills it, is discarded."""

    name = "build-cached"
    title = "docker build of 5 instructions, from the cache"
    cached = True


def _context(subject: Any) -> Path:
    return Path(subject.directory) / "context"


WORKLOADS = (Cold, Cached)
