"""The context of a verb: its arguments, the client, and the output streams."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.arguments import Arguments
    from isola.client import Client
    from isola.client.operations import Operation

_WAIT_SECONDS = 0.2
"""Seconds. Most operations end in this time; they cost one request instead of two."""


class Context:
    """Passed to every verb."""

    def __init__(self, args: Arguments, elsewhere: str = "") -> None:
        self.args = args
        self._elsewhere = elsewhere
        """The remote named on the command line; empty for none."""
        self.quiet = args.flag("quiet")
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The daemon's client, created on first use."""
        if self._client is None:
            from isola.cli.places import project_here, remote_of
            from isola.client import Client

            directory = self.args.text("dir")
            remote = remote_of(self._elsewhere, here=bool(directory))
            chosen = project_here(directory) if remote is None else remote.project
            project = self.args.text("project") or chosen
            self._client = Client(directory or None, project=project, remote=remote)
            self._client.wait_seconds = _WAIT_SECONDS
            self._client.everywhere = self.args.flag("all-projects")
        return self._client

    def connect(self) -> Client:
        """Another client of the same daemon and project, for a thread of its own."""
        return Context(self.args, self._elsewhere).client

    def remember_project(self, name: str) -> None:
        """Store a project as the default for commands to this daemon."""
        from isola.cli.places import choose_project

        choose_project(self.args.text("dir"), self.client.remote, name)

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()

    def write(self, text: str) -> None:
        """Print the command's result on standard output."""
        from isola.cli.terminal import shown

        sys.stdout.write(shown(text, sys.stdout) + "\n")

    def say(self, text: str) -> None:
        """Print a notice on standard error; nothing with ``--quiet``."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    def follow(self, operation: Operation, title: str = "") -> Operation:
        """Wait for an operation and show its progress; Ctrl-C cancels it."""
        if operation.finished:
            operation.wait()
            return operation
        from isola.cli.waiting import follow

        return follow(operation, title, quiet=self.quiet)
