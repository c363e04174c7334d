"""``--wait``: a verb that starts an instance waits until the instance is ready."""

from __future__ import annotations

from isola.cli.grammar import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

OPTIONS = (
    Option(
        "--wait",
        "Wait until systemd reports it as ready (ready), its health check succeeds (healthy), a TCP port is open (80),"
        " or a shell command succeeds",
        value="ready|healthy|PORT|COMMAND",
        complete="ready healthy",
    ),
    Option(
        "--wait-timeout",
        "Seconds to wait with --wait; by default 60, and 600 where the host emulates the instance's processors",
        value="SECONDS",
    ),
)


def wait(context: Context, name: str) -> str:
    """Wait as requested by the options; returns the state to print."""
    if not context.args.given("wait"):
        return "is running"
    from isola.client.ready import default_timeout, wait_ready

    instances, seconds = context.client.instances, context.args.number("wait-timeout")
    if seconds is None:
        seconds = default_timeout(instances.get(name), context.client.server.info())
    remark = wait_ready(instances, name, context.args.text("wait"), seconds)
    return f"is ready, but {remark}" if remark else "is ready"
