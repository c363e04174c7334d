"""The builder of Dockerfiles, which are instructions already."""

from __future__ import annotations

from collections.abc import Mapping
from posixpath import normpath

from isola.builds.builder import Builder, read
from isola.builds.dockerfile.lines import MAX_FILE
from isola.errors import InvalidInput, NotFound
from isola.host.files import Root
from isola.model.build import BuildRequest
from isola.model.ignore import MAX_FILE as LARGEST_IGNORE
from isola.model.ignore import Patterns, read_ignore_file


class DockerfileBuilder(Builder):
    """The default."""

    file = "Dockerfile"
    summary = "the instructions of a Dockerfile"
    is_checked = True

    def check(self, request: BuildRequest) -> None:
        """Arguments are those of the file."""

    async def instructions(self, context: Root, request: BuildRequest) -> bytes:
        """The file as it is."""
        path = "/" + normpath(f"/{request.dockerfile or self.file}").lstrip("/")
        try:
            path, data = await self._found(context, path)
        except NotFound as error:
            raise InvalidInput(
                f"Cannot locate specified Dockerfile: {path.lstrip('/')[:200]}", field="dockerfile"
            ) from error
        await _without_ignored(context, path)
        return data

    async def _found(self, context: Root, path: str) -> tuple[str, bytes]:
        """As Docker does: where there is no ``Dockerfile``, ``dockerfile`` is read. Raises NotFound."""
        directory, _, name = path.rpartition("/")
        try:
            return path, await read(context, path, MAX_FILE)
        except NotFound:
            if name != self.file:
                raise
        other = f"{directory}/{name.lower()}"
        return other, await read(context, other, MAX_FILE)

    def arguments(self, request: BuildRequest) -> Mapping[str, str]:
        """As the client has given them: the file says which it takes."""
        return request.arguments


async def _without_ignored(context: Root, dockerfile: str) -> None:
    """Clients send both files even if they are ignored; COPY does not see them then."""
    found = [(path, await _optional(context, path)) for path in (f"{dockerfile}.dockerignore", "/.dockerignore")]
    name, data = next(((path, data) for path, data in found if data is not None), ("", None))
    if data is None:
        return
    patterns: Patterns = read_ignore_file(data)
    for path in (dockerfile, name):
        if patterns.excludes(path.lstrip("/")):
            await context.remove(path)


async def _optional(context: Root, path: str) -> bytes | None:
    try:
        return await read(context, path, LARGEST_IGNORE)
    except NotFound:
        return None


DRIVER = DockerfileBuilder
