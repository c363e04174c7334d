"""Drives one subject inside its namespaces: requests are JSON lines on standard input, responses on standard output."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from bench import catalogue, sandbox
from bench.images import Images
from bench.shell import at_most
from bench.subject import Subject
from bench.workload import Workload

SECONDS = 180.0
SECONDS_AROUND = 600.0
"""Seconds for preparation and cleanup around the samples: hundreds of instances for some workloads."""


class Runner:
    """Answers requests: start, prepare, warm, sample, finish, stop."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._workloads: dict[str, Workload] = catalogue.workloads()

    def answer(self, request: dict[str, Any]) -> object:
        """Carry out one request."""
        verb = request["do"]
        if verb == "start":
            self._subject.start()
            return self._subject.version()
        if verb == "stop":
            self._subject.stop()
            return None
        workload = self._workloads[request["workload"]]
        if verb == "prepare":
            workload.prepare(self._subject)
            return None
        if verb == "warm":
            return workload.sample(self._subject) if workload.warm_up else None
        if verb == "sample":
            return [workload.sample(self._subject) for _ in range(workload.samples)]
        workload.finish(self._subject)
        return None


def main() -> None:
    """Take the arguments: subject, working directory, directory of images."""
    name, directory, images = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sandbox.settle(Path(directory))
    sandbox.become_init()
    runner = Runner(catalogue.subject(name)(Path(directory), Images(Path(images))))
    for line in sys.stdin:
        try:
            request = json.loads(line)
            with at_most(SECONDS_AROUND if request["do"] in ("prepare", "finish") else SECONDS):
                reply: dict[str, object] = {"ok": runner.answer(request)}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
