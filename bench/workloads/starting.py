"""Twenty existing instances of a tiny image are started at once."""

from contextlib import ExitStack, closing, suppress
from typing import Any

from bench.connection import Connection
from bench.objects import started
from bench.shell import Trouble
from bench.workload import Workload, milliseconds

ORDER = 21


class StartTwenty(Workload):
    """Twenty commands at once."""

    name = "start-20"
    title = "Start 20 at once, tiny image"
    needs = ("create", "start_many", "kill", "delete")
    targets = {"incus": 0.15, "lxc": 2.0}
    names = [f"bench-m{number}" for number in range(20)]

    def prepare(self, subject: Any) -> None:
        """Create them."""
        for name in self.names:
            subject.create("tiny", name)

    def sample(self, subject: Any) -> float:
        """Start; stopping them is not timed."""
        try:
            return milliseconds(lambda: self.start(subject))
        finally:
            for name in self.names:
                with suppress(Trouble):
                    subject.kill(name)

    def start(self, subject: Any) -> None:
        """By twenty commands."""
        subject.start_many(self.names)

    def finish(self, subject: Any) -> None:
        """Remove them."""
        for name in self.names:
            subject.delete(name)


class StartTwentyByApi(StartTwenty):
    """The same without a program for each: one client, twenty connections."""

    name = "start-20-api"
    title = "Start 20 at once by API, tiny image"
    needs = ("act", "create", "kill", "delete")
    targets = {"incus": 0.15}

    def start(self, subject: Any) -> None:
        """By requests."""
        start_at_once(subject.connection.path, self.names)


def start_at_once(path: str, names: list[str]) -> None:
    """All requests are sent before the first operation is waited for."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(Connection(path))) for _ in names]
        begun = [
            (connection, connection.begin(*started(name))) for connection, name in zip(connections, names, strict=True)
        ]
        for connection, answer in begun:
            connection.wait(answer)


WORKLOADS = (StartTwenty, StartTwentyByApi)
