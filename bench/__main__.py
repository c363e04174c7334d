"""``python -m bench``: compares Isola with one peer after another, round by round; writes a table and the results."""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench import catalogue, images, program, rounds, sandbox, table
from bench.shell import Trouble
from bench.workload import Workload

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "bench"
RESULTS = ROOT / "bench" / "results"


class Remote:
    """A subject that runs in its own namespaces."""

    def __init__(self, name: str, place: Path, rootfs: Path) -> None:
        self.name = name
        self.kind = catalogue.subject(name)
        self.version = ""
        self._place = place / name
        self._before = sandbox.cgroup_tops()
        self._process = sandbox.spawn("bench.runner", [name, str(place / name), str(rootfs)], place / f"{name}.log")

    def ask(self, verb: str, workload: str = "") -> Any:
        """Send a request; raises Trouble if it failed."""
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": verb, "workload": workload}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Trouble(f"{self.name} has ended")
        reply = json.loads(line)
        if "error" in reply:
            raise Trouble(f"{self.name}: {reply['error']}")
        return reply["ok"]

    def end(self) -> None:
        """Stop it, end its namespaces and remove its control groups."""
        with suppress(Trouble):
            self.ask("stop")
        # Killing unshare kills the first process of the namespace, and with it all others.
        self._process.kill()
        self._process.wait()
        left = sandbox.remove_cgroups(self.kind.control_groups(self._place), self._before)
        if left:
            print(f"  left behind: {left}", file=sys.stderr)


@contextmanager
def running(name: str, place: Path, rootfs: Path) -> Iterator[Remote]:
    """A subject that is up."""
    remote = Remote(name, place, rootfs)
    try:
        remote.version = remote.ask("start")
        yield remote
    finally:
        remote.end()


def compare(peer: str, workloads: list[Workload], count: int, place: Path, rootfs: Path) -> Iterator[table.Row]:
    """Compare Isola with one peer."""
    kind, ours = catalogue.subject(peer), catalogue.subject(catalogue.OURS)
    shared = [w for w in workloads if not w.alone and all(kind.can(verb) and ours.can(verb) for verb in w.needs)]
    if not shared:
        return
    with running(catalogue.OURS, place, rootfs) as us, running(peer, place, rootfs) as them:
        versions = (us.version, them.version)
        for group in rounds.settings(shared):
            for workload, figures in rounds.measure(group, [us, them], count):
                yield table.Row(workload, peer, figures.get(us.name, []), figures.get(peer, []), versions)


def alone(workloads: list[Workload], count: int, place: Path, rootfs: Path) -> Iterator[table.Row]:
    """Workloads that are measured on Isola only."""
    ours = [workload for workload in workloads if workload.alone]
    if not ours:
        return
    with running(catalogue.OURS, place, rootfs) as us:
        for group in rounds.settings(ours):
            for workload, figures in rounds.measure(group, [us], min(count, 2)):
                yield table.Row(workload, "", figures.get(us.name, []), [], (us.version,))


def main() -> None:
    """Parse the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="peers and workloads or patterns of them, separated by commas")
    parser.add_argument("--from-checkout", action="store_true", help="measure this checkout, not what is installed")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("The bench starts real containers: sudo make bench")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    every = catalogue.workloads()
    try:
        names, peers = catalogue.chosen(arguments.only, list(every), catalogue.peer_names())
    except ValueError as error:
        parser.error(str(error))
    workloads = [every[name] for name in names]
    place = Path(tempfile.mkdtemp(prefix="isola-bench-", dir="/tmp"))
    place.chmod(0o711)  # root of an unprivileged instance must be able to search it
    rows: list[table.Row] = []
    try:
        if arguments.from_checkout:
            program.use_checkout(place / "bin")
        rootfs = images.prepare(CACHE).directory
        for peer in peers:
            print(f"Beside {peer}", file=sys.stderr)
            rows += measured(compare(peer, workloads, arguments.rounds, place, rootfs))
            for name in (peer, catalogue.OURS):
                remove(place / name)
        print("Ourselves", file=sys.stderr)
        rows += measured(alone(workloads, arguments.rounds, place, rootfs))
    finally:
        report(rows, arguments.rounds)
        if not arguments.keep:
            remove(place)


def measured(rows: Iterator[table.Row]) -> Iterator[table.Row]:
    """Rows until an error, which ends the comparison with this peer only."""
    try:
        yield from rows
    except Trouble as trouble:
        print(f"  {trouble}", file=sys.stderr)


def remove(place: Path) -> None:
    """Remove a directory; subvolumes and mounts of a peer that died are gone with its namespace."""
    sandbox.remove_claims(place)
    shutil.rmtree(place, ignore_errors=True)
    if place.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=False)


def report(rows: list[table.Row], rounds: int) -> None:
    """Print the table and write the results."""
    print(table.render(rows))
    print("\nMeasured:", ", ".join(dict.fromkeys(version for row in rows for version in row.versions)))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.datetime.now(tz=datetime.UTC)
    target = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    target.write_text(
        json.dumps({"date": now.isoformat(), "rounds": rounds, "rows": [row.as_json() for row in rows]}, indent=1)
    )
    print(f"\nWritten to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
