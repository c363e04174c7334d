"""Random verbs by several clients while the daemon is killed repeatedly; a model records acknowledged changes.

Each client owns its instances, so acknowledged changes must be visible. A request that fails because the daemon died
may have taken effect or not: the next request must find one of the possible states.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daemon import ApiError, Daemon

ABSENT, STOPPED, RUNNING, FROZEN = "absent", "Stopped", "Running", "Frozen"
_GUESTS = 3
_ANSWER_SECONDS = 90.0
_WEIGHTS = {
    "launch": 6, "create": 2, "start": 4, "stop": 2, "kill": 3, "restart": 2, "freeze": 2, "thaw": 3, "rename": 2,
    "configure": 4, "limit": 3, "profile": 2, "push": 4, "pull": 3, "execute": 6, "look": 3, "delete": 2,
}  # fmt: skip

_EXISTING = (STOPPED, RUNNING, FROZEN)
_FITS = {
    "launch": (ABSENT,), "create": (ABSENT,), "look": (ABSENT, *_EXISTING), "profile": (ABSENT, *_EXISTING),
    "start": (STOPPED,), "rename": (STOPPED,), "kill": (RUNNING, FROZEN), "thaw": (FROZEN,),
    "limit": (RUNNING, STOPPED), "push": (RUNNING, STOPPED), "pull": (RUNNING, STOPPED),
    "configure": _EXISTING, "delete": _EXISTING,
}  # fmt: skip
"""States in which a verb is valid; the others need a running instance."""


class Broken(Exception):
    """The connection was lost: the daemon died while it worked on the request."""


@dataclass(frozen=True)
class Guest:
    """The state of one of its instances that a client expects."""

    name: str
    power: str = ABSENT
    stamp: str = ""
    memory: str = ""
    files: tuple[tuple[str, int], ...] = ()
    """Path -> number of lines; each line is the path and that number."""


@dataclass
class Client:
    """One of the storm's clients: a thread, its instances, its profile."""

    number: int
    daemon: Daemon
    seed: int
    over: threading.Event
    guests: list[Guest] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    wrong: list[str] = field(default_factory=list)
    processes: int = 100

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed * 1000 + self.number)
        self.profile = f"storm{self.number}"
        self.counter = 0
        self.guests = [Guest(f"s{self.number}n{index}") for index in range(_GUESTS)]

    # --- running ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the end; a contradiction to the model is added to ``wrong`` and ends this client."""
        try:
            self.patient("POST", "/1.0/profiles", {"name": self.profile, "config": {"limits.processes": "100"}})
            while not self.over.is_set():
                self.step()
        except AssertionError as error:
            self.wrong.append(f"client {self.number}: {error}")
        except Exception as error:
            self.wrong.append(f"client {self.number}: {type(error).__name__}: {error}")

    def step(self) -> None:
        """One random verb on one of the instances, then a check of its state."""
        index = self.random.randrange(_GUESTS)
        guest = self.guests[index]
        verbs = [name for name in _WEIGHTS if fits(name, guest)]
        name = self.random.choices(verbs, [_WEIGHTS[verb] for verb in verbs])[0]
        self.counter += 1
        possible = getattr(self, f"do_{name}")(guest)
        self.done[name] = self.done.get(name, 0) + 1
        self.guests[index] = self.found(name, possible)

    def found(self, verb: str, possible: Sequence[Guest]) -> Guest:
        """The actual state among the possible ones, of which the last is the acknowledged one."""
        seen: list[Guest] = []
        for guest in reversed(possible):
            seen.append(self.observe(guest))
            if seen[-1] == guest:
                return guest
        raise AssertionError(f"after {verb} there is {seen[0]}, possible was {list(possible)}")

    # --- verbs: each returns the states that are possible afterwards ----------------------------------------------

    def attempt(self, before: Guest, after: Guest, act: Callable[[], object], *between: Guest) -> Sequence[Guest]:
        """Act; if it is acknowledged, only ``after`` is possible, after a lost connection any state."""
        try:
            act()
        except Broken:
            self.broken += 1
            return (before, *between, after)
        return (after,)

    def do_launch(self, guest: Guest, *, start: bool = True) -> Sequence[Guest]:
        """Create and start."""
        stamp = f"{self.number}.{self.counter}"
        stopped = Guest(guest.name, STOPPED, stamp)
        body = {
            "name": guest.name,
            "source": {"type": "image", "alias": "tiny"},
            "start": start,
            "profiles": ["default", self.profile],
            "config": {"user.stamp": stamp},
        }
        after = replace(stopped, power=RUNNING) if start else stopped
        return self.attempt(guest, after, lambda: self.operate("POST", "/1.0/instances", body), stopped)

    def do_create(self, guest: Guest) -> Sequence[Guest]:
        """Create without starting."""
        return self.do_launch(guest, start=False)

    def do_start(self, guest: Guest) -> Sequence[Guest]:
        """Start."""
        return self.attempt(guest, replace(guest, power=RUNNING), lambda: self.change(guest, "start"))

    def do_stop(self, guest: Guest) -> Sequence[Guest]:
        """Stop it cleanly."""
        return self.attempt(guest, replace(guest, power=STOPPED), lambda: self.change(guest, "stop"))

    def do_kill(self, guest: Guest) -> Sequence[Guest]:
        """Stop it by force; a frozen instance is thawed first."""
        act = lambda: self.change(guest, "stop", force=True)  # noqa: E731
        return self.attempt(guest, replace(guest, power=STOPPED), act, replace(guest, power=RUNNING))

    def do_restart(self, guest: Guest) -> Sequence[Guest]:
        """Stop and start by force."""
        act = lambda: self.change(guest, "restart", force=True)  # noqa: E731
        return self.attempt(guest, replace(guest, power=RUNNING), act, replace(guest, power=STOPPED))

    def do_freeze(self, guest: Guest) -> Sequence[Guest]:
        """Freeze."""
        return self.attempt(guest, replace(guest, power=FROZEN), lambda: self.change(guest, "freeze"))

    def do_thaw(self, guest: Guest) -> Sequence[Guest]:
        """Thaw."""
        return self.attempt(guest, replace(guest, power=RUNNING), lambda: self.change(guest, "unfreeze"))

    def do_rename(self, guest: Guest) -> Sequence[Guest]:
        """Give it a new name."""
        after = replace(guest, name=f"{guest.name.partition('x')[0]}x{self.counter}")
        act = lambda: self.operate("POST", f"/1.0/instances/{guest.name}", {"name": after.name})  # noqa: E731
        return self.attempt(guest, after, act)

    def do_configure(self, guest: Guest) -> Sequence[Guest]:
        """Replace its configuration as a careful client does: read, change, write with the ETag."""
        after = replace(guest, stamp=f"{self.number}.{self.counter}")
        return self.attempt(guest, after, lambda: self.write(after, {"user.stamp": after.stamp}))

    def do_limit(self, guest: Guest) -> Sequence[Guest]:
        """Change its memory limit, live if it runs."""
        after = replace(guest, memory=f"{self.random.randrange(64, 256)}MiB")
        return self.attempt(guest, after, lambda: self.write(after, {"limits.memory": after.memory}))

    def do_profile(self, guest: Guest) -> Sequence[Guest]:
        """Change the profile of all instances of this client."""
        before, self.processes = self.processes, self.random.randrange(100, 1000)
        body = {"config": {"limits.processes": str(self.processes)}}
        with contextlib.suppress(Broken):
            self.ask("PUT", f"/1.0/profiles/{self.profile}", body)
            before = self.processes
        seen = self.patient("GET", f"/1.0/profiles/{self.profile}")["config"]["limits.processes"]
        assert int(seen) in (before, self.processes), f"profile has {seen}, possible was {before}, {self.processes}"
        self.processes = int(seen)
        return (guest,)

    def do_push(self, guest: Guest) -> Sequence[Guest]:
        """Write a file."""
        path, lines = f"/root/f{self.random.randrange(3)}", self.random.randrange(1, 5000)
        after = replace(guest, files=tuple(sorted((dict(guest.files) | {path: lines}).items())))
        text = content(path, lines)
        headers = {"X-LXD-type": "file", "X-LXD-write": "overwrite", "Content-Type": "application/octet-stream"}
        try:
            self.ask("POST", f"/1.0/instances/{guest.name}/files?path={path}", text.encode(), headers)
        except Broken:
            self.broken += 1
            seen = self.patiently_read(guest, path)
            old = dict(guest.files).get(path)
            possible = {None if number is None else content(path, number): number for number in (old, lines)}
            assert seen in possible, f"a push that broke off left {seen!r:.60} in {guest.name}{path}"
            return (guest,) if possible[seen] == old else (after,)
        return (after,)

    def do_pull(self, guest: Guest) -> Sequence[Guest]:
        """Read what was written."""
        for path, lines in guest.files:
            seen = self.patiently_read(guest, path) or ""
            assert seen == content(path, lines), f"{guest.name}{path}, {lines} lines, is {seen[:40]!r}... ({len(seen)})"
        return (guest,)

    def do_execute(self, guest: Guest) -> Sequence[Guest]:
        """Run a command and read its output."""
        word = f"w{self.counter}"
        body = {"command": ["echo", word], "record-output": True, "wait-for-websocket": False}
        with contextlib.suppress(Broken):
            ended = self.operate("POST", f"/1.0/instances/{guest.name}/exec", body)["metadata"]
            texts = [self.read(ended["output"][number]) for number in "12"]
            assert (ended["return"], texts[0]) == (0, f"{word}\n"), f"exec in {guest} gave {ended['return']}, {texts}"
        return (guest,)

    def do_look(self, guest: Guest) -> Sequence[Guest]:
        """List everything; the client's own instances must be as acknowledged."""
        with contextlib.suppress(Broken):
            shown = {
                one["name"]: one for one in self.ask("GET", f"/1.0/instances?recursion={self.random.choice('12')}")
            }
            for own in self.guests:
                if own.power == ABSENT:
                    assert own.name not in shown, f"{own.name} is listed and was deleted"
                else:
                    assert own.name in shown, f"{own.name} is not listed"
                    seen = shown[own.name]["config"]["user.stamp"]
                    assert seen == own.stamp, f"the list shows {seen} for {own}"
        return (guest,)

    def do_delete(self, guest: Guest) -> Sequence[Guest]:
        """Delete it, running or not."""
        after = Guest(guest.name)
        act = lambda: self.operate("DELETE", f"/1.0/instances/{guest.name}?force=1")  # noqa: E731
        return self.attempt(guest, after, act, replace(guest, power=STOPPED), replace(guest, power=RUNNING))

    # --- requests --- -------------------------------------------------------------------------------

    def observe(self, guest: Guest) -> Guest:
        """The same instance in the daemon's present view; files are compared by ``pull``."""
        try:
            seen = self.patient("GET", f"/1.0/instances/{guest.name}")
        except ApiError as error:
            assert error.status == 404, f"{guest.name}: {error}"
            return Guest(guest.name)
        config = seen["config"]
        power, stamp = seen["status"], config.get("user.stamp", "")
        return replace(guest, power=power, stamp=stamp, memory=config.get("limits.memory", ""))

    def write(self, wanted: Guest, config: dict[str, str]) -> None:
        """Read, change, write with the ETag."""
        with answering():
            body, etag = self.with_etag(f"/1.0/instances/{wanted.name}")
            body["config"] |= config
            self.operate("PUT", f"/1.0/instances/{wanted.name}", body, {"If-Match": etag})

    def with_etag(self, path: str) -> tuple[dict[str, Any], str]:
        """A body and its ETag."""
        with answering():
            answer, headers = self.daemon.answer(path)
            return answer["metadata"], headers["ETag"]

    def change(self, guest: Guest, action: str, *, force: bool = False) -> None:
        """Start, stop, freeze, ..."""
        body = {"action": action, "timeout": 30, "force": force}
        self.operate("PUT", f"/1.0/instances/{guest.name}/state", body)

    def operate(self, method: str, path: str, body: Any = None, headers: Any = None) -> dict[str, Any]:
        """Run an operation to its end. Raises Broken, ApiError, AssertionError if it fails."""
        with answering():
            answer = self.daemon.request(method, path, body, headers=headers, timeout=_ANSWER_SECONDS)
            if answer["type"] == "sync":
                return answer["metadata"] or {}
            try:
                ended = self.daemon.wait(answer["metadata"], _ANSWER_SECONDS)
            except ApiError as error:
                if error.status == 404:  # started by a daemon that has been killed since
                    raise Broken from error
                raise
        if ended["status"] == "Cancelled" or "cancelled" in ended["err"]:
            raise Broken
        assert ended["status"] == "Success", f"{method} {path}: {ended['err']}"
        return ended

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        """A response's metadata. Raises Broken, ApiError."""
        with answering():
            return self.daemon.request(method, path, body, headers=headers, timeout=_ANSWER_SECONDS)["metadata"]

    def read(self, path: str) -> str:
        """A raw body. Raises Broken."""
        with answering():
            return self.daemon.read(path)

    def patiently_read(self, guest: Guest, path: str) -> str | None:
        """A file's content as soon as a daemon returns it; None if there is no file."""
        end = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                return self.read(f"/1.0/instances/{guest.name}/files?path={path}")
            except ApiError as error:
                assert error.status == 404, f"{guest.name}{path}: {error}"
                return None
            except Broken:
                assert time.monotonic() < end, f"no daemon returns {path}"
                time.sleep(0.05)

    def patient(self, method: str, path: str, body: Any = None) -> Any:
        """The same, repeated until a daemon responds."""
        end = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                return self.ask(method, path, body)
            except Broken:
                assert time.monotonic() < end, f"no daemon responds to {path}"
                time.sleep(0.05)


def content(path: str, lines: int) -> str:
    """Content of a pushed file."""
    return f"{path} {lines}\n" * lines


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raises Broken if the connection failed or was lost."""
    try:
        yield
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        raise Broken from error


def fits(verb: str, guest: Guest) -> bool:
    """Whether a verb is valid in the state of an instance."""
    return guest.power in _FITS.get(verb, (RUNNING,))
