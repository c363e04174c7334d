"""A list over ten projects with ten instances each."""

from typing import Any

from bench.objects import PROJECT, new, remove_all
from bench.workload import Workload, milliseconds, per_second

ORDER = 45
PROJECTS = [f"bench-p{number}" for number in range(10)]
EACH = 10


class InProjects(Workload):
    """A hundred stopped instances."""

    setting = "projects"

    def prepare(self, subject: Any) -> None:
        """Make projects and instances."""
        for project in PROJECTS:
            subject.act("POST", "/1.0/projects", {"name": project, "config": PROJECT})
        subject.act_each(
            [new(f"{project}-{number}", project=project) for project in PROJECTS for number in range(EACH)]
        )

    def finish(self, subject: Any) -> None:
        """Remove both."""
        remove_all(subject)


class ListProjects(InProjects):
    """By the command line."""

    name = "list-projects"
    title = "list of 100 in ten projects by CLI"
    needs = ("act", "list_projects")
    targets = {"incus": 0.6}
    samples = 3

    def sample(self, subject: Any) -> float:
        """List."""
        return milliseconds(subject.list_projects)


class ApiListProjects(InProjects):
    """By the API."""

    name = "api-list-projects"
    title = "list of 100 in ten projects by API (recursion=1)"
    unit = "req/s"
    needs = ("act",)
    targets = {"incus": 1.67}
    more_is_better = True

    def sample(self, subject: Any) -> float:
        """For two seconds."""
        return per_second(lambda: subject.act("GET", "/1.0/instances?recursion=1&all-projects=true"), 2.0)


WORKLOADS = (ListProjects, ApiListProjects)
