"""``--wait``: a verb that starts an instance ends only when the instance is ready."""

from __future__ import annotations

from isola.cli.grammar import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

OPTIONS = (
    Option(
        "--wait",
        "Wait until it is ready: its systemd says so (ready), a TCP port is served (80), a shell command succeeds",
        value="ready|PORT|COMMAND",
        complete="ready",
    ),
    Option("--wait-timeout", "Seconds to wait for that", value="SECONDS", default="60"),
)


def wait(context: Context, name: str) -> str:
    """Wait as the options say; returns how the instance is then."""
    if not context.args.given("wait"):
        return "is running"
    from isola.client.ready import wait_ready

    seconds = context.args.number("wait-timeout", 60)
    condition = context.args.text("wait")
    remark = wait_ready(context.client.instances, name, condition, 60 if seconds is None else seconds)
    return f"is ready, but {remark}" if remark else "is ready"
