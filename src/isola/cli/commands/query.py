"""``isola query``."""

from __future__ import annotations

import sys

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import document
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


def query(context: Context) -> int:
    """Send one request to the API."""
    args = context.args
    path = args.text("PATH")
    if not path.startswith("/"):
        raise UsageError("PATH starts with /", hint=f"isola query {ROOT}/instances")
    method = args.text("request") or ("POST" if args.given("data") else "GET")
    data = args.text("data")
    if data == "-":
        data = sys.stdin.read()
    if args.flag("raw"):
        return _raw(context, method, path, data)
    operation = context.client.begin(method, path, _decoded(data))
    if args.flag("wait"):
        operation.wait()
    document(context, operation.info if args.flag("wait") or operation.info.get("id") else operation.answer, "json")
    return 0


def _raw(context: Context, method: str, path: str, data: str) -> int:
    headers = (("Content-Type", "application/json"),) if data else ()
    response = context.client.exchange(method, path, data.encode() if data else None, headers=headers)
    from isola.client.writing import write_all

    sys.stdout.flush()
    for piece in response:
        write_all(1, piece)
    context.client.release(response)
    return 0 if response.status < 400 else 1


def _decoded(data: str) -> object:
    from isola.client.json import decode

    if not data:
        return None
    try:
        return decode(data)
    except ValueError as error:
        raise UsageError(f"--data is not JSON: {error}") from None


COMMANDS = (
    Command(
        "query",
        "Call the API directly",
        query,
        Argument("PATH", f"Path with its query, e.g. {ROOT}/instances?recursion=1"),
        Option("-X --request", "The method (default: GET, or POST with --data)", value="METHOD", choices=_METHODS),
        Option("-d --data", "JSON to send; - reads standard input", value="JSON"),
        Option("--wait", "Wait for the operation that it starts"),
        Option("--raw", "Print the whole response unchanged"),
        examples=(
            (f"isola query {ROOT}", "the daemon's environment and configuration"),
            (f'isola query -X PUT --wait -d \'{{"action": "start"}}\' {ROOT}/instances/web1/state', "start web1"),
        ),
    ),
)
