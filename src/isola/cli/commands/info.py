"""``isola info``."""

from __future__ import annotations

from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import DOCUMENT_FORMAT, document, time_of
from isola.model.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.shapes import InstanceInfo, StateInfo


def info(context: Context) -> None:
    """Print the state of an instance, or of the daemon."""
    name = context.args.text("NAME")
    kind = context.args.text("format") or "yaml"
    if not name:
        document(context, context.client.server.info(), kind)
        return
    instance, slash, snapshot = name.partition("/")
    if slash:
        document(context, dict(context.client.instances.read_snapshot(instance, snapshot)), kind)
        return
    found = context.client.instances.get(name, state=True)
    document(context, found if kind == "json" else _summary(found), kind)
    if context.args.flag("show-log"):
        log = context.client.instances.log(name, "lxc.log").decode(errors="replace")
        from isola.cli.terminal import clean

        context.write("\nlog:\n" + "\n".join(clean(line) for line in log.splitlines()))


def _summary(found: InstanceInfo) -> dict[str, object]:
    """The most important fields of an instance, to be displayed."""
    state: StateInfo = found.get("state") or {}
    summary: dict[str, object] = {
        "name": found.get("name"),
        "status": found.get("status"),
        "isolation": found.get("isolation") or found.get("type"),
        "runtime": found.get("runtime"),
        "wall": _wall(found, state),
        "hostname": (found.get("expanded_config") or {}).get("isola.hostname"),
        "description": found.get("description"),
        "architecture": found.get("architecture"),
        "created": time_of(found.get("created_at")),
        "profiles": found.get("profiles"),
        "ephemeral": found.get("ephemeral"),
    }
    limits = {k: v for k, v in (found.get("expanded_config") or {}).items() if k.startswith("limits.")}
    summary["limits"] = limits
    if state.get("pid"):
        summary |= {"pid": state.get("pid"), "processes": state.get("processes")}
    summary |= _life(found, state)
    summary["resources"] = _resources(state)
    summary["network"] = _network(state)
    return {key: value for key, value in summary.items() if value not in (None, "", {}, [], False)}


def _wall(found: InstanceInfo, state: StateInfo) -> dict[str, object]:
    """What its isolation is, what it protects and what it costs."""
    wall, memory = found.get("wall") or {}, state.get("memory") or {}
    took, used = wall.get("start_ms"), memory.get("usage", 0)
    shown = {
        "separates": wall.get("separates"),
        "protects": wall.get("protects"),
        "start": f"{took} ms until its program ran" if took is not None else None,
        "memory": f"{format_size(used)} of the host, for its programs and its wall" if used > 0 else None,
    }
    return {key: value for key, value in shown.items() if value}


def _life(found: InstanceInfo, state: StateInfo) -> dict[str, object]:
    """Health, and how the last run ended."""
    health, last = state.get("health"), found.get("last_run")
    shown: dict[str, object] = {}
    if health:
        shown["health"] = (
            f"{health.get('status')}, {health.get('failing')} failed" if health.get("failing") else health.get("status")
        )
    if last:
        ended = {
            "exit status": last.get("exit_status"),
            "out of memory": last.get("oom_killed"),
            "error": last.get("error"),
            "finished": str(last.get("finished_at") or "")[:19].replace("T", " "),
            "restarts": last.get("restarts"),
        }
        shown["last run"] = {key: value for key, value in ended.items() if value or key == "exit status"}
    return shown


def _resources(state: StateInfo) -> dict[str, object]:
    memory, cpu = state.get("memory") or {}, state.get("cpu") or {}
    found: dict[str, object] = {}
    if cpu.get("usage", 0) > 0:
        found["cpu seconds"] = round(cpu["usage"] / 1e9, 1)
    for key, title in (("usage", "memory"), ("usage_peak", "memory peak"), ("swap_usage", "swap")):
        if memory.get(key, 0) > 0:
            found[title] = format_size(memory[key])
    disks = {
        name: format_size(disk.get("usage", 0)) for name, disk in (state.get("disk") or {}).items() if disk.get("usage")
    }
    if disks:
        found["disk"] = disks
    return found


def _network(state: StateInfo) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, interface in (state.get("network") or {}).items():
        if name == "lo":
            continue
        counters = interface.get("counters") or {}
        addresses = [
            f"{a.get('address')}/{a.get('netmask')} ({a.get('scope')})" for a in interface.get("addresses") or ()
        ]
        shown: dict[str, object] = {
            "addresses": addresses,
            "hwaddr": interface.get("hwaddr"),
            "host link": interface.get("host_name"),
            "received": format_size(counters.get("bytes_received", 0)),
            "sent": format_size(counters.get("bytes_sent", 0)),
        }
        found[name] = {key: value for key, value in shown.items() if value}
    return found


COMMANDS = (
    Command(
        "info",
        "Show the details of an instance, or of the daemon",
        info,
        Argument("NAME", "The instance (default: the daemon)", optional=True, complete="instances"),
        DOCUMENT_FORMAT,
        Option("--show-log", "Add the error of its last failed start and the console's log"),
        examples=(
            ("isola info web1", "state, addresses, usage"),
            ("isola info web1 -f json", "everything that the API returns"),
            ("isola info", "the daemon, its drivers and the host"),
        ),
    ),
)
