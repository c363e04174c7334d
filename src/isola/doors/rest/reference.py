"""The reference page of the door: ``python -m isola.doors.rest.reference > docs/reference/rest-api.md``."""

from __future__ import annotations

import sys

from isola.doors.rest.extensions import EXTENSIONS
from isola.doors.rest.not_offered import NOT_OFFERED
from isola.doors.rest.routing import Route, all_routes

_OLDER = ("containers", "virtual-machines")
_HEAD = """# The REST API

<!-- Written by `python -m isola.doors.rest.reference`; a test compares. -->

The daemon speaks the Incus/LXD REST API 1.0 on the Unix socket `ISOLA_DIR/unix.socket` (default
`/var/lib/isola/unix.socket`), which root and members of the group `isola` may open. Clients and libraries of LXD and
Incus find the API they know: `LXD_DIR=/var/lib/isola lxc list`. What is not offered yet is refused with the reason, and
marked so in the table of routes.

    curl --unix-socket /var/lib/isola/unix.socket http://isola/1.0/instances?recursion=1

## Answers

| type | HTTP status | means |
| --- | --- | --- |
| `sync` | 200, 201 | done; the result is `metadata` |
| `async` | 202 | begun; `operation` is the path of the operation, `metadata` the operation as it is now |
| `error` | 400 and above | refused or failed; `error` is a sentence for people, `metadata` is for programs |

`metadata` of an error holds `code` (stable; act on this), `message`, `field` (which part of the request is wrong, such
as `config.limits.memory` or `devices.eth0.mtu`), `remedy` (the way out) and `evidence`. A failed operation has the same
in its `metadata.error`.

| code | status |
| --- | --- |
| `invalid`, `unsafe_archive`, `wrong_state`, `in_use`, `cancelled` | 400 |
| `forbidden` | 403 |
| `not_found` (with `field`: what that part of the request names) | 404 |
| `method_not_allowed` (a method that is none of HTTP's usual ones) | 405 |
| `conflict`, `already_exists`, `busy` | 409 |
| `precondition_failed` | 412 |
| `too_large` | 413 |
| `unsupported`, `driver_unavailable` | 501, or 400 where a field of the request asks for it |
| `timed_out` | 504 |
| `host_failure`, `command_failed` | 500 |

## Common parameters

- `recursion=1` on a list answers the things instead of their paths; `recursion=2` on instances adds their state, and so
  does `recursion=1` on one instance. Disk use is measured for one instance only: it walks the volume.
- `filter=status eq Running and not name eq web1` selects; operators `eq ne gt lt ge le`, words `and or not`; fields
  within are named by dots (`config.user.tier eq front`). Texts compare without regard to case and may use `^`, `$`,
  `.*` and `(a|b)`.
- `instance-type=container` or `virtual-machine` on `/1.0/instances` chooses as the older trees do.
- `project=` names the project, `default` where it is left out; `all-projects=true` lists those of all projects.
  `target=` is accepted and means nothing.
- `null` counts as absent in every body and message. Empty values of `config`, `devices` and `properties` do as well,
  but in `PATCH` they remove the key.
- `GET` of what can be changed gives an `ETag`; `PUT` and `PATCH` with `If-Match` refuse (412) when it has
  changed since.

## Operations

`GET /1.0/operations` is a map by status. While one runs, `metadata.progress` lists its steps: `name`, `done`, `total`
(`null` where it cannot be known), `unit` (`bytes`, `items` or empty), `finished`, `depth`. `DELETE` cancels:
`Cancelled` is reported once everything is undone. `GET .../wait` ends with the operation.

What wants a thing that another operation works on waits for its turn: its status is `Pending`, and
`metadata.waiting_for` names the other. [Operations](../explanation/operations.md) says what waits and what is refused.
An operation that has ended can be asked about for 30 seconds. Should very many end in that time (more than 32 MiB of
them), those whose end a client has asked for go first.

Channels of `exec` and `console` are WebSockets at `/1.0/operations/ID/websocket?secret=S`, with the secrets of
`metadata.fds`: `0`, `1`, `2` and `control`, or with a terminal `0` and `control`. Data is sent as binary messages; an
empty text message is the end of a stream, in either direction. `control` takes
`{"command": "window-resize", "args": {"width": "80", "height": "24"}}` and `{"command": "signal", "signal": 15}`. The
exit status is `metadata.return` of the operation. A client that leaves `control`, or leaves all its channels and never
connected `control`, takes its command with it. With `record-output` instead of `wait-for-websocket` the first 16 MiB
of each stream are kept; `metadata.output_truncated` names the streams that wrote more. Such a command belongs to no
connection: it goes on when its client vanishes, and ends with `DELETE` of its operation.

`GET /1.0/events` is a WebSocket too: `type=operation,lifecycle,logging` chooses.

## Files

`GET .../files?path=` answers a file as it is, a directory as a list of names (in no order where they are many), and a
symbolic link as a link: the body is its target, `X-LXD-type` is `symlink`. `X-LXD-uid`, `-gid`, `-mode` and
`-modified` say the rest; so does `HEAD`, with the type and the length of a file. All have `X-Incus-` names too. `POST`
takes uid, gid, mode and type. A file keeps the owner and mode it has where none are given, or gets 0, 0 and 0644;
a directory gets 0750 and stays as it is when it is there, and so does a link to the same target. The content, also with
`X-LXD-write: append`, counts when it is whole: what breaks off changes nothing.

`GET .../sftp` with `Upgrade: sftp` is answered with 101, and then speaks SFTP version 3 on the connection, without
SSH, as LXD and Incus do: `incus file`, `lxc file push -r`, `pull -r` and `mount` stand on it. All requests are there,
and of OpenSSH's extensions `posix-rename`, `hardlink`, `fsync`, `lsetstat`, `statvfs`, `fstatvfs` and `limits`.
`rename` replaces nothing. Paths are resolved inside: no link leads out. What is new belongs to root inside until its
owner is set. A session may have 256 files and directories open, and takes packets of up to 256 KiB; 64 sessions are
served at a time. It ends when the instance starts, stops or is deleted. Files that were read or written, and what was
made or removed, are told as `instance-file-retrieved`, `-pushed` and `-deleted`.

Files on `proc`, `sysfs` and their like, and all on FUSE and network file systems, are refused with `unsupported`.

## What is ours

- `POST /1.0/instances` takes `isolation` (`container`) and `runtime` (`runc`, `crun`), and instances show them. With
  `start` the instance is made and started in one operation; an alias that an image source offers (`debian/12`) is built
  on demand.
- `POST /1.0/images` with `{"source": {"type": "image", "protocol": "build", "alias": "debian/12", "options": {...}},
  "aliases": [{"name": "debian/12"}]}` has an image source make an image; `source.server` names the source where several
  offer the same.
- `environment.runtimes` and `environment.drivers` of `GET /1.0` say of every driver whether it works on this host, and
  if not why and what to do.
- `user` of `exec` may be a name; without `group` the command runs with the group that the instance gives the user.
- Images show `system` (a distribution with its own init) and `source` (where it came from).
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, "## Routes", "", *_route_table(), "", "## API extensions", "", *_extension_table(), ""])


def _route_table() -> list[str]:
    """One row for each path; the older names of ``/1.0/instances`` are left out."""
    rows = ["| method | path | | needs |", "| --- | --- | --- | --- |"]
    routes = [route for route in all_routes() if not route[1].removeprefix("/1.0/").startswith(_OLDER)]
    rows += [_row(route) for route in sorted(routes, key=lambda route: (route[1], route[0]))]
    refused = ", ".join(f"`{path}`" for path, _ in NOT_OFFERED if not path.startswith(_OLDER))
    return [
        *rows,
        "",
        "The same under `/1.0/containers` and `/1.0/virtual-machines` as under `/1.0/instances`.",
        "",
        f"Refused with `unsupported`, with all that lies below them, are, of `/1.0/`: {refused}.",
    ]


def _row(route: Route) -> str:
    method, path, handler, permission = route
    text = " ".join((handler.__doc__ or "").split()).replace("``", "`")
    return f"| {method} | `{path.replace('...', '')}` | {text} | {permission.name.lower()} |"


def _extension_table() -> list[str]:
    return ["| extension | |", "| --- | --- |", *(f"| `{name}` | {text} |" for name, text in EXTENSIONS.items())]


if __name__ == "__main__":
    sys.stdout.write(page())
