"""``--output`` of a build: what of the result is written where."""

from __future__ import annotations

import os
import sys

from isola.cli.arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_KINDS = {"local": "files", "tar": "files", "oci": "archive", "docker": "archive", "image": "image"}
_FORMS = "DIRECTORY, - (a tar archive), or type=local|tar|oci|docker|image with dest=PATH"


class BuildOutput:
    """One of ``DIRECTORY``, ``-``, ``type=KIND,dest=PATH``; empty: the image stays with the daemon. Raises UsageError.

    A context: the file is complete when it ends without an error, and is removed otherwise.
    """

    def __init__(self, text: str) -> None:
        fields = _fields(text)
        self._kind = fields.pop("type", "image")
        self._path = fields.pop("dest", "")
        self.name = fields.pop("name", "")
        """Of the image."""
        push = fields.pop("push", "false")
        if fields or self._kind not in _KINDS or push not in ("true", "false"):
            raise UsageError(f"--output {text}: not understood", hint=f"--output is {_FORMS}")
        self.push = push == "true"
        if self._kind == "docker" and not self._path:
            self._kind = "image"  # as with docker: into the daemon
        self.output = _KINDS[self._kind]
        """As the daemon calls it."""
        self._check(text)
        self._file: BinaryIO | None = None

    def _check(self, text: str) -> None:
        if self.output == "image" and self._path:
            raise UsageError(f"--output {text}: an image stays with the daemon", hint="type=oci or type=tar has a dest")
        if self.output != "image" and self.push:
            raise UsageError(f"--output {text}: only an image is pushed", hint="use type=image,push=true")
        if self._kind == "local" and self._path in ("", "-"):
            raise UsageError("--output type=local needs a directory: type=local,dest=DIRECTORY")
        if self.output != "image" and self._path in ("", "-") and sys.stdout.isatty():
            raise UsageError("The archive is not written to a terminal", hint="use dest=FILE, or redirect it")

    @property
    def is_local(self) -> bool:
        """Whether the result goes to this command."""
        return self.output != "image"

    def __enter__(self) -> BuildOutput:
        if not self.is_local:
            return self
        if self._kind == "local":
            from isola.cli.build_files import Unpacking

            self._unpacking = Unpacking(self._path)
        elif self._path in ("", "-"):
            self._file = sys.stdout.buffer
        else:
            self._file = open(f"{self._path}.part", "wb")
        return self

    def take(self, data: bytes) -> None:
        """The next piece. Raises OSError, InvalidInput."""
        if self._file is not None:
            self._file.write(data)
        else:
            self._unpacking.take(data)

    def finish(self) -> None:
        """All has arrived. Raises OSError, InvalidInput."""
        if not self.is_local:
            return
        if self._file is None:
            self._unpacking.finish()
        elif self._file is sys.stdout.buffer:
            self._file.flush()
        else:
            self._file.close()
            os.replace(f"{self._path}.part", self._path)

    def __exit__(self, *error: object) -> None:
        if self._file is not None and self._file is not sys.stdout.buffer and not self._file.closed:
            self._file.close()
            os.unlink(f"{self._path}.part")


def _fields(text: str) -> dict[str, str]:
    if not text:
        return {}
    if text == "-":
        return {"type": "tar", "dest": "-"}
    if "=" not in text:
        return {"type": "local", "dest": text}
    found = dict(part.partition("=")[::2] for part in text.split(","))
    if "type" not in found:
        raise UsageError(f"--output {text}: the type is missing", hint=f"--output is {_FORMS}")
    return found
