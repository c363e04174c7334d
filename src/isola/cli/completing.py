"""Candidates for the last argument: verbs, options, and names that the daemon lists."""

from __future__ import annotations

from isola.cli import index
from isola.cli.elsewhere import parted as elsewhere
from isola.cli.grammar import GLOBAL_OPTIONS, Group, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from isola.cli.grammar import Argument, Command
    from isola.client import Client

_SECONDS = 2.0
TAB = "\t"
"""Separates a candidate from its description."""
_KEYS_OF = {
    "instance-keys": "instance",
    "network-keys": "network",
    "project-keys": "project",
    "device-keys": "devices",
    "storage-keys": "storage",
    "volume-keys": "volume",
}
_DETERMINED_BY = {"device-keys": "TYPE", "snapshots": "INSTANCE"}
"""Kind of candidates -> the earlier argument that determines them."""
_INSIDE = ("files", "paths-or-files")
_OF_INSTANCES = ("snapshots", "sources")


def candidates(arguments: Sequence[str], directory: str = "") -> list[str]:
    """Candidates for the last argument; empty if the shell should complete paths."""
    *before, unfinished = arguments
    found = _found(before, unfinished, directory)
    return [each for each in found if each.startswith(unfinished)]


def _found(before: Sequence[str], unfinished: str, directory: str) -> Iterable[str]:
    rest = list(before)
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in ("--dir", "--project") else rest[1:]
    if not rest:
        return _option_names(GLOBAL_OPTIONS) if unfinished.startswith("-") else index.names()
    item = index.find(rest[0])
    rest = rest[1:]
    while isinstance(item, Group):
        if not rest:
            return [command.name for command in item.commands]
        item = item.find(rest[0])
        rest = rest[1:]
    if item is None:
        return ()
    return _of_command(item, rest, unfinished, directory or _dir_of(before))


def _dir_of(arguments: Sequence[str]) -> str:
    places = [position for position, each in enumerate(arguments[:-1]) if each == "--dir"]
    return arguments[places[0] + 1] if places else ""


def _of_command(command: Command, before: list[str], unfinished: str, directory: str) -> Iterable[str]:
    options = (*command.options, *GLOBAL_OPTIONS)
    if "--" in before:
        return ()
    pending = _pending(options, before)
    if pending is not None:
        return pending.choices or _names(pending.complete, unfinished, directory)
    if unfinished.startswith("-"):
        return _with_value(options, unfinished, directory) or _option_names(options)
    argument = _argument(command, options, before)
    if argument is None:
        return ()
    return _names(argument.complete, unfinished, directory, _about(argument.complete, command, options, before))


def _about(kind: str, command: Command, options: Iterable[Option], before: Sequence[str]) -> str:
    """An earlier argument that determines the candidates: a device's type, the instance of snapshots; else empty."""
    given = zip(command.arguments, _given(options, before), strict=False)
    return next((value for argument, value in given if argument.name == _DETERMINED_BY.get(kind)), "")


def _pending(options: Iterable[Option], before: Sequence[str]) -> Option | None:
    """The option whose value is being typed."""
    last = before[-1] if before else ""
    return next((option for option in options if option.value and last in option.names), None)


def _with_value(options: Iterable[Option], unfinished: str, directory: str) -> list[str]:
    """``--wait=re``: candidates for the value, with the option in front."""
    name, equals, value = unfinished.partition("=")
    pending = _pending(options, [name]) if equals else None
    if pending is None:
        return []
    return [f"{name}={each}" for each in pending.choices or _names(pending.complete, value, directory)]


def _argument(command: Command, options: Iterable[Option], before: Sequence[str]) -> Argument | None:
    count = len(_given(options, before))
    if count < len(command.arguments):
        return command.arguments[count]
    last = command.arguments[-1] if command.arguments else None
    return last if last is not None and last.many and not last.rest else None


def _given(options: Iterable[Option], before: Sequence[str]) -> list[str]:
    """The positional arguments, without options and their values."""
    takes_value = {name for option in options if option.value for name in option.names}
    found: list[str] = []
    skip = False
    for each in before:
        if skip:
            skip = False
        elif each.startswith("-") and each != "-":
            skip = each in takes_value
        else:
            found.append(each)
    return found


def _option_names(options: Iterable[Option]) -> list[str]:
    return [option.names[-1] for option in options]


def _names(kind: str, unfinished: str, directory: str, about: str = "") -> Iterable[str]:
    if kind in ("", "paths"):
        return ()
    if kind not in (*_LISTS, *_INSIDE, *_KEYS_OF, *_OF_INSTANCES):
        return kind.split()
    from isola.cli.places import remote_of
    from isola.client import Client

    place, rest = elsewhere(kind, unfinished)
    if kind == "snapshots":  # the remote's name precedes the instance's
        place, about = elsewhere("instances", about)
    try:
        with Client(
            directory or None, timeout=_SECONDS, remote=remote_of(place.rstrip(":"), here=bool(directory))
        ) as client:
            names = _candidates_of(client, kind, rest, about)
            return list(names) if kind == "snapshots" else [place + name for name in names]
    except Exception:  # a completion has nowhere to show errors
        return ()


def _candidates_of(client: Client, kind: str, unfinished: str, about: str) -> Iterable[str]:
    if kind in _INSIDE:
        return _files(client, unfinished)
    if kind in _KEYS_OF:
        return _keys(client, _KEYS_OF[kind], unfinished, about)
    if kind == "snapshots":
        return _snapshots(client, about)
    if kind == "sources":
        name, slash, _ = unfinished.partition("/")
        return [f"{name}/{each}" for each in _snapshots(client, name)] if slash else client.instances.names()
    list_names = _LISTS.get(kind)
    return list_names(client) if list_names is not None else ()


def _images(client: Client) -> list[str]:
    offered = client.server.info().get("environment", {}).get("image_offers")
    return [
        *(alias["name"] for alias in client.images.aliases()),
        *(offered if isinstance(offered, list | dict) else ()),
    ]


def _keys(client: Client, noun: str, unfinished: str, kind: str) -> list[str]:
    """Keys with a description of their values; after ``KEY=`` the values, if they are a fixed set."""
    expected = client.server.expected(noun, kind)
    key, equals, _ = unfinished.partition("=")
    if equals:
        return [f"{key}={value}" for value in _choices(expected.get(key, ""))]
    return [f"{key.removesuffix('*')}{TAB}{values}" for key, values in sorted(expected.items())]


def _choices(expected: str) -> list[str]:
    if expected == "true or false":
        return ["true", "false"]
    return expected.removeprefix("one of ").split(", ") if expected.startswith("one of ") else []


def _snapshots(client: Client, instance: str) -> list[str]:
    return client.instances.snapshot_names(instance) if instance else []


def _remotes(client: Client) -> list[str]:
    from isola.client.remotes import Remotes

    return Remotes().names()


_LISTS: dict[str, Callable[[Client], list[str]]] = {
    "device-types": lambda client: client.server.device_types(),
    "volumes": lambda client: [
        f"{pool['name']}/{volume['name']}"
        for pool in client.storage.all()
        for volume in client.volumes.all(pool["name"])
        if volume["type"] == "custom"
    ],
    "instances": lambda client: client.instances.names(),
    "projects": lambda client: client.server.project_names(),
    "images": _images,
    "networks": lambda client: [item["name"] for item in client.networks.all() if item.get("managed")],
    "pools": lambda client: [item["name"] for item in client.storage.all()],
    "profiles": lambda client: [item["name"] for item in client.profiles.all()],
    "remotes": _remotes,
    "repositories": lambda client: [item["name"] for item in client.registry.repositories()],
    "login-tokens": lambda client: [item["name"] for item in client.registry.tokens()],
    "certificates": lambda client: [item["fingerprint"][:12] for item in client.certificates.all()],
    "operations": lambda client: [item["id"] for item in client.operations.all()],
    "warnings": lambda client: [item["uuid"] for item in client.warnings.all()],
}


def _files(client: Client, unfinished: str) -> Iterable[str]:
    """``web1/etc/ho``: names below ``web1/etc``; directories end in a slash."""
    name, slash, path = unfinished.partition("/")
    if not slash:
        return [f"{name}/" for name in client.instances.names()]
    folder = path.rpartition("/")[0]
    files = client.instances.files(name)
    found = []
    for child in files.names("/" + folder)[:200]:
        inner = f"{folder}/{child}".lstrip("/")
        if not inner.startswith(path):
            continue
        with files.open("/" + inner) as entry:
            found.append(f"{name}/{inner}" + ("/" if entry.kind == "directory" else ""))
    return found
