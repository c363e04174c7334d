"""Every error Isola raises on purpose.

    IsolaError
    ├── InvalidInput            invalid               the request is wrong; the field and the remedy are named
    │   ├── TooLarge            too_large             a body, archive or value exceeds a stated limit
    │   └── UnsafeArchive       unsafe_archive        an archive has paths out of its root, or is a bomb
    ├── NotFound                not_found
    ├── Forbidden               forbidden
    ├── Conflict                conflict
    │   ├── AlreadyExists       already_exists
    │   ├── InUse               in_use
    │   ├── Busy                busy                  another operation holds the resource; it is named
    │   ├── WrongState          wrong_state           e.g. starting what runs
    │   ├── Exhausted           exhausted             every address of a range is in use
    │   ├── PreconditionFailed  precondition_failed   an ETag or compare-and-swap did not match
    │   └── Compacted           compacted             changes of that long ago are forgotten: read everything again
    ├── Unsupported             unsupported           a driver cannot do it; the capability is named
    │   └── DriverUnavailable   driver_unavailable    a driver does not work on this host; why, and what to do
    ├── ProgramFailed           program_failed        a program that a user gave, such as RUN of a build, failed
    ├── Cancelled               cancelled
    ├── TimedOut                timed_out
    └── HostFailure             host_failure          the host refused an effect
        ├── StorageFull         storage_full          a disk or a quota is full
        ├── SuspectState        suspect_state         the records are lost, damaged or older than what is there
        └── CommandFailed       command_failed        a program of the host failed; its output is the evidence

Clients act on ``code``, never on the text. ``str(error)`` is one readable line or two: what happened, the evidence,
the way out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # the command line starts faster without them
    from collections.abc import Sequence
    from typing import ClassVar


class IsolaError(Exception):
    """Base of every deliberate error: what happened, the evidence, the way out."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, evidence: str = "", remedy: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence
        self.remedy = remedy
        self.field = field
        self.path = ""
        """Set by the client library: the path of the request that this answers."""

    def __str__(self) -> str:
        text = self.message
        if self.evidence:
            text += f": {self.evidence}"
        if self.remedy:
            text += f" ({self.remedy})"
        return text


class InvalidInput(IsolaError):
    """The request is wrong; ``field`` names where."""

    code = "invalid"


class TooLarge(InvalidInput):
    """A body, archive or value exceeds a stated limit."""

    code = "too_large"


class UnsafeArchive(InvalidInput):
    """An archive has a path that leads out of its root, or is a decompression bomb."""

    code = "unsafe_archive"


class NotFound(IsolaError):
    """There is no such thing."""

    code = "not_found"


class Forbidden(IsolaError):
    """The caller may not do this."""

    code = "forbidden"


class Conflict(IsolaError):
    """The present state does not allow it."""

    code = "conflict"


class AlreadyExists(Conflict):
    """Something of that name exists."""

    code = "already_exists"


class InUse(Conflict):
    """Something else still needs it."""

    code = "in_use"


class Busy(Conflict):
    """Another operation holds the resource; the message names it."""

    code = "busy"


class WrongState(Conflict):
    """The resource is not in a state that allows the verb."""

    code = "wrong_state"


class Exhausted(Conflict):
    """Every address of a network is in use; ``evidence`` is its name, ``field`` says which kind of address."""

    code = "exhausted"


class PreconditionFailed(Conflict):
    """An ETag or a compare-and-swap did not match what is stored."""

    code = "precondition_failed"


class Compacted(Conflict):
    """A watcher asks for changes that are no longer known; it has to read everything again."""

    code = "compacted"


class Unsupported(IsolaError):
    """A driver or the host cannot do it; says which and what can."""

    code = "unsupported"


class DriverUnavailable(Unsupported):
    """A driver does not work on this host; says why and what to do."""

    code = "driver_unavailable"


class ProgramFailed(IsolaError):
    """A user's program ended with an error, as ``status`` says; its output went to the client.

    ``command``: the program with its arguments, where the message is not for all clients the right one.
    """

    code = "program_failed"

    def __init__(
        self,
        message: str,
        status: int = 1,
        *,
        command: str = "",
        evidence: str = "",
        remedy: str = "",
        field: str | None = None,
    ) -> None:
        super().__init__(message, evidence=evidence, remedy=remedy, field=field)
        self.status, self.command = status, command


class Cancelled(IsolaError):
    """The operation was cancelled and what it had done is undone."""

    code = "cancelled"


class TimedOut(IsolaError):
    """It did not happen in the time allowed."""

    code = "timed_out"


class HostFailure(IsolaError):
    """The host refused an effect."""

    code = "host_failure"


class StorageFull(HostFailure):
    """A disk, or a quota of it, is full. What the request began is undone."""

    code = "storage_full"


class SuspectState(HostFailure):
    """The records are lost, damaged or older than what they belong to; nothing was changed."""

    code = "suspect_state"


class CommandFailed(HostFailure):
    """A program failed; the evidence is the end of its standard error."""

    code = "command_failed"

    def __init__(self, argv: Sequence[str], status: int, stderr: str = "", *, remedy: str = "") -> None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(f"{argv[0]} {how}", evidence=stderr.strip()[-2000:], remedy=remedy)
        self.argv = tuple(argv)
        self.status = status
