"""Profiles of least privilege: what is learned, the filter made of it, and refusals as events and warnings."""

from __future__ import annotations

import struct

import pytest

from isola.errors import AlreadyExists, InvalidInput, NotFound, Unsupported
from isola.host import refusals
from isola.host.bpf import EXIT, JUMP, MOVE_IMMEDIATE, Code
from isola.host.btf import KernelTypes
from isola.host.recording import parse_sockets
from isola.model.file_change import ChangeKind, FileChange
from isola.model.learned import directories, fewer, learned
from isola.model.ports import joined, spans
from isola.model.recorded import Recorded
from isola.model.reference import Ref
from isola.model.system_calls import NAMES
from isola.model.warning import WarningType
from isola.runtimes.oci.allowing import ALWAYS_NEEDED, allowing
from isola.runtimes.oci.seccomp import ALWAYS, FOR_APPLICATIONS, KEYS
from isola.testing.parts import World

ADDED, MODIFIED, DELETED = ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED
TCP = """\
  sl  local_address rem_address   st
   0: 00000000:1F90 00000000:0000 0A
   1: 0100007F:0050 00000000:0000 0A
   2: 0A0A0A0A:1F91 0A0A0A0B:0050 01
"""


def paths(*changes: tuple[str, ChangeKind]) -> list[FileChange]:
    return [FileChange(path, kind) for path, kind in changes]


def test_the_topmost_directories_that_were_written_stay_writable() -> None:
    changed = paths(
        ("/srv", MODIFIED), ("/srv/www", ADDED), ("/srv/www/index", ADDED), ("/etc", MODIFIED), ("/etc/hosts", ADDED),
        ("/var", MODIFIED), ("/var/log", MODIFIED), ("/var/log/app", MODIFIED), ("/usr", MODIFIED), ("/usr/x", DELETED),
    )  # fmt: skip
    assert directories(changed, {"/etc/hosts"}) == ("/srv", "/tmp", "/usr", "/var/log", "/var/tmp")


def test_what_is_written_at_the_top_leaves_the_root_writable() -> None:
    found = learned(Recorded(frozenset({0})), paths(("/new", ADDED)), (), mounted=frozenset())
    assert "isola.paths.writable" not in found.config
    assert "the root stays writable" in found.notes[0]


def test_the_configuration_permits_what_was_seen() -> None:
    seen = Recorded(frozenset({59, 0, 9999}), True, frozenset({10, 21}))
    found = learned(seen, (), {"udp/53", "tcp/8080", "tcp/80"}, mounted=frozenset())
    assert found.config == {
        "security.syscalls.allow": "execve\nread",
        "isola.capabilities.drop": "ALL",
        "isola.capabilities.add": "NET_BIND_SERVICE,SYS_ADMIN",
        "isola.paths.writable": "/tmp,/var/tmp",
        "user.learned.ports": "tcp/80,tcp/8080,udp/53",
    }
    assert [note.partition(" are left out")[0] for note in found.notes] == [
        "system calls without a known name", "system calls of 32-bit programs",
    ]  # fmt: skip


def test_ports_of_the_kernel_replace_the_note_and_what_was_missed_is_told() -> None:
    seen = Recorded(listens=frozenset({"tcp/80"}), connects=frozenset(), missed=("some of the ports",))
    found = learned(seen, (), {"tcp/8080"}, mounted=frozenset())
    assert found.config["isola.ports.listen"] == "tcp/80,tcp/8080" and found.config["isola.ports.connect"] == "none"
    assert "user.learned.ports" not in found.config
    assert found.notes == ("not recorded: some of the ports",)


def test_names_that_programs_choose_name_nothing_else() -> None:
    names = ("x,", "a ", "b\nc", "d" * 201)
    changed = paths(*((f"/srv/{name}/file", ADDED) for name in names), ("/opt/e,/etc/f", ADDED))
    assert directories(changed) == ("/opt", "/srv", "/tmp", "/var/tmp")


def test_a_million_directories_are_few_names() -> None:
    opened = frozenset({f"/srv/{number % 7}/{number}" for number in range(100_000)} | {"/etc", "/lib/x"})
    found = learned(Recorded(opened=opened), (), (), mounted=frozenset())
    assert found.opened == ("/etc", "/lib/x", *(f"/srv/{number}" for number in range(7)))
    assert fewer([f"/{each}" for each in range(999)], 100) == ("/",)


def test_ports_are_ranges_and_too_many_are_joined() -> None:
    assert joined({"tcp/80", "tcp/81", "tcp/82", "udp/53", "tcp/9"}) == ("tcp/9", "tcp/80-82", "udp/53")
    many = joined({f"{kind}/{port}" for kind in ("tcp", "udp") for port in range(1, 40_000, 3)})
    assert len(many) == 64 and {each.partition("/")[0] for each in many} == {"tcp", "udp"}


@pytest.mark.parametrize(
    "value", ["80", "tcp/0", "tcp/65536", "tcp/9-8", "sctp/1", "tcp/1;drop", "", "tcp/\u0661", ",".join(["tcp/1"] * 65)]
)
def test_other_ports_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        spans(value)


def rules(*names: str, system: bool = False, report: bool = True) -> dict[str, object]:
    return allowing(names, system=system, architecture="x86_64", report=report)


def allowed(profile: dict[str, object]) -> set[str]:
    found: set[str] = set()
    for rule in profile["syscalls"]:  # type: ignore[attr-defined]
        found |= set(rule["names"]) if rule["action"] == "SCMP_ACT_ALLOW" else set()
    return found


def test_a_list_allows_its_calls_and_what_engines_need() -> None:
    profile = rules("bind", "kill")
    assert allowed(profile) == {"bind", "kill"} | ALWAYS_NEEDED
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO" and profile["flags"] == ["SECCOMP_FILTER_FLAG_LOG"]
    assert "flags" not in rules("bind", report=False)


def test_a_list_never_allows_what_the_usual_filter_refuses() -> None:
    everything = allowed(rules(*NAMES.values()))
    assert not everything & {*ALWAYS, *KEYS, *FOR_APPLICATIONS, "clone3"}
    assert allowed(rules(*NAMES.values(), system=True)) >= {"mount", "clone3"}


def test_conditions_of_the_usual_filter_stay() -> None:
    profile = rules("socket")
    of = {name: [rule["args"][0] for rule in profile["syscalls"] if rule["names"] == [name] and "args" in rule]  # type: ignore[attr-defined]
          for name in ("socket", "clone", "ioctl")}  # fmt: skip
    assert {rule["valueTwo"] for rule in of["socket"]} == {0, 1, 2, 10, 16, 17}
    assert [(rule["value"], rule["valueTwo"]) for rule in of["clone"]] == [(0x7E020000, 0)]
    fits = {
        request: any(request & rule["value"] == rule["valueTwo"] for rule in of["ioctl"])
        for request in (0x5401, 0x5000940E, 0x50009417, 0x50009500)
    }
    assert fits == {0x5401: True, 0x5000940E: False, 0x50009417: False, 0x50009500: True}


def test_sockets_that_listen_for_others_are_ports() -> None:
    assert set(parse_sockets("tcp", TCP)) == {"tcp/8080"}
    assert set(parse_sockets("udp", TCP)) == {"udp/8080"}


def audited(**fields: object) -> bytes:
    known: dict[str, object] = {
        "uid": 100033, "pid": 7, "comm": '"app"', "exe": '"/bin/app"', "arch": "c000003e", "syscall": 92,
        "code": "0x50001",
    }  # fmt: skip
    text = "audit(1.2:3): " + " ".join(f"{key}={value}" for key, value in (known | fields).items())
    return struct.pack("=IHHII", 0, 1326, 0, 0, 0) + text.encode()


def test_a_report_of_the_kernel_is_read() -> None:
    found = refusals.parse(audited(comm="61206200"))
    assert found is not None
    assert (found.uid, found.pid, found.command, found.program, found.call) == (100033, 7, "a b?", "/bin/app", 92)


@pytest.mark.parametrize(
    "message",
    [b"", b"x" * 20, audited(code="0x7ffc0000"), audited(uid="x"), audited(comm="zz"), bytes(16) + audited()],
)  # fmt: skip
def test_other_reports_are_left_out(message: bytes) -> None:
    assert refusals.parse(message) is None


def test_jumps_lead_to_their_places() -> None:
    code = Code()
    code.jump(JUMP, 0, "end")
    code.wide(1, 1 << 40)
    code.place("end")
    code.add(MOVE_IMMEDIATE, 0, value=-1 & 0xFFFFFFFF)
    code.add(EXIT)
    made = [struct.unpack("<BBhi", code.encode()[at : at + 8]) for at in range(0, 40, 8)]
    assert made[0][2] == 2 and made[1][3] == 0 and made[2][3] == 1 << 8 and made[3][3] == -1


def test_types_of_the_kernel_are_found() -> None:
    types = KernelTypes()
    assert types.offset("list_head", "prev") == 8
    assert types.function("cap_capable") > 0
    with pytest.raises(KeyError):
        types.offset("list_head", "nothing")


async def test_an_instance_is_recorded_until_the_end(world: World) -> None:
    await world.create("web1", start=True)
    learning, recorder = world.parts.services.instances.learning, world.host.recorder
    await learning.begin(Ref.default("web1"))
    with pytest.raises(AlreadyExists):
        await learning.begin(Ref.default("web1"))
    recorder.seen = Recorded(frozenset({59}), False, frozenset({7}))
    found = await learning.read(Ref.default("web1"))
    assert (found.calls, found.capabilities) == (("execve",), ("SETUID",))
    await learning.end(Ref.default("web1"))
    assert recorder.open == []
    with pytest.raises(NotFound):
        await learning.read(Ref.default("web1"))


async def test_recordings_of_deleted_instances_end(world: World) -> None:
    await world.create("web1")
    await world.create("web2")
    await world.parts.services.instances.learning.begin(Ref.default("web1"))
    await world.finish(world.parts.services.instances.delete(Ref.default("web1")))
    await world.parts.services.instances.learning.begin(Ref.default("web2"))
    assert len(world.host.recorder.open) == 1


@pytest.mark.parametrize("config", [{"isola.seccomp": "unconfined"}, {"security.syscalls.allow": "read"}])
async def test_what_cannot_be_told_apart_is_not_recorded(world: World, config: dict[str, str]) -> None:
    await world.create("web1", config=config)
    with pytest.raises(InvalidInput):
        await world.parts.services.instances.learning.begin(Ref.default("web1"))
    assert world.host.recorder.open == []


async def test_a_host_that_cannot_record_says_why(world: World) -> None:
    world.host.recorder.refuses = "no BPF"
    await world.create("web1")
    for _ in range(2):
        with pytest.raises(Unsupported, match="no BPF"):
            await world.parts.services.instances.learning.begin(Ref.default("web1"))


async def test_two_filters_are_refused(world: World) -> None:
    with pytest.raises(InvalidInput):
        await world.create(
            "web1", config={"isola.seccomp": "unconfined", "security.syscalls.allow": "read"}, start=True
        )


async def test_refusals_are_an_event_and_a_warning_of_their_instance(world: World) -> None:
    await world.create("web1", start=True)
    base = world.parts.services.instances.get(Ref.default("web1")).idmap.base
    for _ in range(3):
        world.host.refusals.refuse(base + 33, 92)
    world.host.refusals.refuse(base - 1, 92)
    await world.parts.services.instances.learning.refused._writing  # type: ignore[misc]
    await world.parts.services.warnings.settled()
    found = [each for each in world.parts.services.warnings if each.type == WarningType.CALLS_REFUSED.text]
    assert [each.message for each in found] == ["chown of /bin/app, 3 times"]
    world.parts.services.instances.learning.refused.close()
    assert world.host.refusals.listeners == []


async def test_refused_ports_are_told_as_refused_calls_are(world: World) -> None:
    ref = Ref.default("web1")
    await world.create("web1", config={"isola.ports.listen": "tcp/80", "isola.ports.connect": "none"}, start=True)
    refused = world.parts.services.instances.learning.refused
    running = world.runtime.instances[world.parts.services.instances.get(ref).id]
    assert (running.limits.listens, running.limits.connects) == (("tcp/80",), ())
    for count in (1, 3, 2):  # counting began at zero
        running.refused_ports = {"listen tcp/81": count}
        await refused.look()
    await world.parts.services.warnings.settled()
    (found,) = [each for each in world.parts.services.warnings if each.type == WarningType.CALLS_REFUSED.text]
    assert found.message == "listening on tcp/81, 5 times"
    with pytest.raises(InvalidInput):
        await world.parts.services.instances.learning.begin(ref)


async def test_calls_that_a_kernel_of_its_own_has_counted_are_told_as_others_are(world: World) -> None:
    ref = Ref.default("web1")
    await world.create("web1", start=True)
    refused = world.parts.services.instances.learning.refused
    running = world.runtime.instances[world.parts.services.instances.get(ref).id]
    for counts in ({(92, "busybox"): 2}, {(92, "busybox"): 2}, {(92, "busybox"): 5, (-1, "?"): 1}):
        running.refused_calls = counts
        await refused.look()
    await world.parts.services.warnings.settled()
    (found,) = [each for each in world.parts.services.warnings if each.type == WarningType.CALLS_REFUSED.text]
    assert found.message == "chown of busybox, 5 times; -1 of a program, once"


async def test_a_run_that_begins_is_followed(world: World) -> None:
    await world.create("web1")
    await world.parts.services.instances.learning.begin(Ref.default("web1"))
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    (recording,) = world.host.recorder.open
    (group,) = (group for _, group in recording.followed)
    assert str(group).endswith(f"/{world.parts.services.instances.get(Ref.default('web1')).id}")


async def test_a_flood_of_refusals_is_bounded(world: World) -> None:
    await world.create("web1", start=True)
    base = world.parts.services.instances.get(Ref.default("web1")).idmap.base
    for number in range(1000):
        world.host.refusals.refuse(base, number % 300, f"/bin/app{number}")
    await world.parts.services.instances.learning.refused._writing  # type: ignore[misc]
    await world.parts.services.warnings.settled()
    (found,) = [each for each in world.parts.services.warnings if each.type == WarningType.CALLS_REFUSED.text]
    assert found.message.count(" of /bin/app") == 32
