"""Lists of one and of a hundred instances, by command line and by API, and commands that do nothing."""

from typing import Any

from bench.workload import Workload, milliseconds, per_second

ORDER = 40


class Noop(Workload):
    """A command with a minimal request to the daemon."""

    name = "cli-noop"
    title = "CLI no-op"
    needs = ("noop",)
    limit = 60.0
    samples = 5

    def sample(self, subject: Any) -> float:
        """Run it."""
        return milliseconds(subject.noop)


class ApiNoop(Workload):
    """The root of the API, repeatedly."""

    name = "api-noop"
    title = "Requests of the API root, one connection"
    unit = "req/s"
    needs = ("api_noop",)
    more_is_better = True

    def sample(self, subject: Any) -> float:
        """For one second."""
        return per_second(subject.api_noop)


class Listed(Workload):
    """Some instances exist."""

    count = 100

    def prepare(self, subject: Any) -> None:
        """Create them."""
        for number in range(self.count):
            subject.create("tiny", f"bench-l{number}")

    def finish(self, subject: Any) -> None:
        """Remove them."""
        subject.delete_many([f"bench-l{number}" for number in range(self.count)])


class ListOne(Listed):
    """The usual case."""

    name = "list-1"
    title = "list of 1 by CLI"
    needs = ("create", "delete_many", "list_all")
    count = 1
    samples = 5

    def sample(self, subject: Any) -> float:
        """List."""
        return milliseconds(subject.list_all)


class ListHundred(Listed):
    """A busy host."""

    name = "list-100"
    title = "list of 100 by CLI"
    needs = ("create", "delete_many", "list_all")
    targets = {"incus": 0.3}
    samples = 3
    setting = "100"

    def sample(self, subject: Any) -> float:
        """List."""
        return milliseconds(subject.list_all)


class ApiList(Listed):
    """Instances without their states."""

    name = "api-list-100"
    title = "list of 100 by API (recursion=1)"
    unit = "req/s"
    setting = "100"
    needs = ("create", "delete_many", "api_list")
    targets = {"incus": 10.0}
    more_is_better = True

    def sample(self, subject: Any) -> float:
        """For two seconds."""
        return per_second(subject.api_list, 2.0)


class ApiListFull(Listed):
    """Instances with their states."""

    name = "api-list-100-full"
    title = "list of 100 by API (recursion=2)"
    unit = "req/s"
    setting = "100"
    needs = ("create", "delete_many", "api_list_full")
    targets = {"incus": 10.0}
    more_is_better = True

    def sample(self, subject: Any) -> float:
        """For two seconds."""
        return per_second(subject.api_list_full, 2.0)


WORKLOADS = (Noop, ApiNoop, ListOne, ListHundred, ApiList, ApiListFull)
