"""Binds, volumes, contents of images and file systems in memory: disk devices."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from isola.devices.image_sources import SOURCE as OF_IMAGE
from isola.devices.image_sources import image_name
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, IsolaError, NotFound
from isola.model.instance import Devices

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_MODES = (("ro", "rw"), ("z", "Z"), _PROPAGATIONS, ("nocopy",), ("consistent", "cached", "delegated"))
"""At most one of each. Ignored are labels of SELinux, and hints for hosts that are virtual machines."""
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,}", re.ASCII)
_TMPFS = "tmpfs:"
_INVALID, _WRONG = "invalid volume specification", 'invalid mount config for type "{}"'
_AT_ROOT = "invalid specification: destination can't be '/'"
_OPTIONS = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions", "image": "ImageOptions"}
"""Fields of single kinds of mounts."""
_NOEXEC = "noexec"
"""Of file systems in memory, unless ``exec`` is asked for."""
_GIVEN = ("size", "mode", "uid", "gid")
_LEAST = 2**16
"""Bytes of a file system in memory: the kernel rounds up as well, to a page."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume that is created unless it exists; without a name, one of the container's own."""

    path: str
    name: str = ""
    read_only: bool = False
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    """Of the driver, if it is created."""
    copied: bool = True
    """Filled with what the image has at the path, as long as it is empty."""
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class Mounts:
    """What a request mounts."""

    devices: Devices
    volumes: tuple[Volume, ...] = ()


def mounts_of(host: Fields, volumes: Mapping[str, object], memory: int) -> Mounts:
    """Of ``HostConfig``, and of the paths that are volumes by the container's or its image's configuration.

    ``memory``: bytes that the host has; like the kernel, half of it is the size of a file system in memory without one.
    Raises InvalidInput, Unsupported.
    """
    found = [*map(_bind, host.texts("Binds")), *(_mount(each, memory) for each in host.objects("Mounts"))]
    found += [_tmpfs(path, options, memory) for path, options in host.mapping("Tmpfs", empty=True).items()]
    paths = [each.path for each in found]
    repeated = next((path for at, path in enumerate(paths) if path in paths[:at]), None)
    if repeated is not None:
        raise InvalidInput(f"Duplicate mount point: {repeated[:200]}")
    own = [_target(path, f"{_WRONG.format('volume')}: ") for path in volumes]
    more = [Volume(path) for path in own if path not in paths]
    driver = host.text("VolumeDriver", "")
    if driver not in ("", "local") and (more or any(isinstance(each, Volume) for each in found)):
        raise InvalidInput(_no_plugin(driver))
    devices = {device_name(each.path): each.device for each in found if isinstance(each, _Disk)}
    named = [each for each in found if isinstance(each, Volume)]
    return Mounts(devices, (*named, *more))


def with_images(mounts: Mounts, find: Callable[[str], str]) -> Mounts:
    """With the fingerprints of images, which ``find`` knows by what clients call them."""
    found = {
        name: {**device, "source": OF_IMAGE + find(image_name(device))} if image_name(device) else device
        for name, device in mounts.devices.items()
    }
    return replace(mounts, devices=found)


def _no_plugin(driver: str) -> str:
    return f'error looking up volume plugin {driver[:80]}: plugin "{driver[:80]}" not found'


def volume_device(volume: Volume, name: str, pool: str) -> dict[str, str]:
    """The disk device of a volume."""
    device = {"type": "disk", "source": name, "pool": pool, "path": volume.path, "subpath": volume.subpath}
    copied = volume.copied and not volume.subpath  # of which all else in the volume would be filled
    device |= {"readonly": "true" if volume.read_only else "", "copy": "true" if copied else ""}
    return {key: value for key, value in device.items() if value}


def device_name(path: str) -> str:
    """Of the device that is mounted at this path."""
    return f"mount-{hashlib.sha256(path.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class _Disk:
    path: str
    device: Mapping[str, str]


def _bind(text: str) -> _Disk | Volume:
    """``/host:/inside:ro``, ``volume:/inside``."""
    parts = text.split(":")
    if parts == ["/"]:
        raise InvalidInput(f"{_INVALID}: '/': {_WRONG.format('volume')}: {_AT_ROOT}")
    if not 2 <= len(parts) <= 3 or not parts[0]:
        raise InvalidInput(f"{_INVALID}: '{text[:200]}'")
    source, options = parts[0], parts[2].split(",") if len(parts) == 3 else []
    kind = "bind" if source.startswith("/") else "volume"
    target = _target(parts[1], f"{_INVALID}: '{text[:200]}': {_WRONG.format(kind)}: ")
    if options != [""] and not _is_mode(options):
        raise InvalidInput(f"invalid mode: {parts[2][:80]}")
    other = ("nocopy",) if source.startswith("/") else _PROPAGATIONS
    if not {*options}.isdisjoint(other):
        field = "VolumeOptions" if kind == "bind" else "BindOptions"
        raise InvalidInput(f"{_INVALID}: '{text[:200]}': {_WRONG.format(kind)}: field {field} must not be specified")
    if not source.startswith("/"):
        return Volume(target, _named(source), "ro" in options, copied="nocopy" not in options)
    device = _path_device(source, target, read_only="ro" in options) | {"create": "true"}
    for each in options:
        if each in _PROPAGATIONS:
            device["propagation"] = each
    return _Disk(target, device)


def _is_mode(options: Sequence[str]) -> bool:
    counts = [sum(option in kind for option in options) for kind in _MODES]
    return sum(counts) == len(options) and max(counts, default=0) <= 1


def _named(name: str) -> str:
    if not _VOLUME.fullmatch(name):
        raise InvalidInput(
            f'create {name[:80]}: "{name[:80]}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return name


def _path_device(source: str, target: str, *, read_only: bool, recursive: bool = True) -> dict[str, str]:
    """The host's root is the container's root, as clients of Docker expect."""
    device = {
        "type": "disk",
        "source": posixpath.normpath(source),
        "path": target,
        "shift": "true",
        "shift.partial": "true",
    }
    return device | ({"recursive": "true"} if recursive else {}) | ({"readonly": "true"} if read_only else {})


def _mount(mount: Fields, memory: int) -> _Disk | Volume:
    kind, source, read_only = mount.text("Type", ""), mount.text("Source", ""), mount.boolean("ReadOnly")
    if kind not in _OPTIONS:
        raise InvalidInput(f"{_WRONG.format(kind[:40])}: mount type unknown")
    _check_fields(mount, kind)
    target = _target(mount.text("Target"), f"{_WRONG.format(kind)}: ")
    if kind == "bind":
        return _bind_mount(mount.inside("BindOptions"), source, target, read_only)
    if kind == "volume":
        options = mount.inside("VolumeOptions")
        if (driver := options.inside("DriverConfig").text("Name", "")) not in ("", "local"):
            raise NotFound(_no_plugin(driver))
        subpath = options.text("Subpath", "")
        if subpath.startswith("/") or ".." in subpath.split("/"):
            raise InvalidInput("subpath must be a relative path within the volume")
        return Volume(
            target,
            _named(source) if source else "",
            read_only,
            options.mapping("Labels", empty=True),
            copied=not options.boolean("NoCopy"),
            options=options.inside("DriverConfig").mapping("Options", empty=True),
            subpath=subpath,
        )
    if kind == "image":
        return _image(mount, source, target)
    options = mount.inside("TmpfsOptions")
    size = options.whole("SizeBytes", 0, maximum=2**63 - 1) or memory // 2
    mode = options.whole("Mode", 0, maximum=0o7777)
    return _Disk(
        target,
        _memory(target, max(size, _LEAST), read_only=read_only, mode=f"{mode:04o}" if mode else "", options=_NOEXEC),
    )


def _image(mount: Fields, source: str, target: str) -> _Disk:
    """Always read-only."""
    subpath = mount.inside("ImageOptions").text("Subpath", "")
    below = posixpath.normpath(subpath) if subpath else "."
    if below.startswith("/") or below.split("/")[0] == "..":
        raise InvalidInput(f"{_WRONG.format('image')}: subpath must be a relative path within the volume")
    device = {"type": "disk", "source": OF_IMAGE + source, "path": target}
    return _Disk(target, device if below == "." else {**device, "subpath": below})


def _check_fields(mount: Fields, kind: str) -> None:
    """Raises InvalidInput for those that are missing, and for those of other kinds."""
    source = bool(mount.text("Source", ""))
    wrong = [name for other, name in _OPTIONS.items() if other != kind and mount.has(name)]
    if wrong and kind == "image":
        raise InvalidInput(f'{wrong[0]} must not be specified on mount type "image"')
    if not mount.text("Target", ""):
        raise InvalidInput(f"{_WRONG.format(kind)}: field Target must not be empty")
    if kind in ("bind", "image") and not source:
        raise InvalidInput(f"{_WRONG.format(kind)}: field Source must not be empty")
    if wrong or (kind == "tmpfs" and source):
        raise InvalidInput(f"{_WRONG.format(kind)}: field {wrong[0] if wrong else 'Source'} must not be specified")


def _bind_mount(options: Fields, source: str, target: str, read_only: bool) -> _Disk:
    if not source.startswith("/"):
        raise InvalidInput(
            'invalid mount config for type "bind": invalid mount path: \''
            + source[:200]
            + "' mount path must be absolute"
        )
    device = _path_device(source, target, read_only=read_only, recursive=not options.boolean("NonRecursive"))
    propagation = options.text("Propagation", "")
    if propagation and propagation not in _PROPAGATIONS:
        raise InvalidInput(f'invalid mount config for type "bind": invalid propagation mode {propagation[:40]!r}')
    if propagation:
        device["propagation"] = propagation
    if options.boolean("CreateMountpoint"):
        device["create"] = "true"
    return _Disk(target, device)


def _tmpfs(path: str, options: str, memory: int) -> _Disk:
    """``rw,noexec,size=64m``; by default of everyone, as in Docker."""
    given, kept = {"mode": "1777"}, []
    for option in options.split(","):
        name, _, value = option.partition("=")
        if name in ("ro", "nosuid", "noexec", "rw", "exec", "suid", "nodev"):
            kept.append(name)
        elif name in _GIVEN:
            given[name] = value
        elif name:
            raise InvalidInput(f'invalid tmpfs option "{name[:40]}"')
    if "exec" not in kept and "noexec" not in kept:
        kept.append(_NOEXEC)
    size = _size(given.pop("size", "") or "50%", memory)
    target = _target(path, "")
    return _Disk(target, _memory(target, max(size, _LEAST), read_only="ro" in kept, options=",".join(kept), **given))


def _memory(
    target: str, size: int, *, read_only: bool = False, options: str = "", mode: str = "", **owner: str
) -> dict[str, str]:
    device = {
        "type": "disk",
        "source": _TMPFS,
        "path": target,
        "size": str(size),
        "raw.mount.options": options,
        **owner,
    }
    device |= {"readonly": "true" if read_only else "", "mode": mode or "1777"}
    return {key: value for key, value in device.items() if value}


def _size(text: str, memory: int) -> int:
    """Bytes, with the kernel's ``k``, ``m``, ``g``, and ``%`` of the memory; 0 is no limit but all of that."""
    factors: dict[str, float] = {"k": 2**10, "m": 2**20, "g": 2**30, "%": memory / 100}
    factor = factors.get(text[-1:].lower())
    digits = text[:-1] if factor else text
    if not (digits.isdecimal() and digits.isascii()) or len(digits) > 18:
        raise InvalidInput(f"invalid tmpfs size {text[:40]!r}")
    return int(int(digits) * (factor or 1)) or memory


def _target(path: str, where: str) -> str:
    """``where``: what goes before the text of an error."""
    if not path.startswith("/"):
        raise InvalidInput(f"{where}invalid mount path: '{path[:200]}' mount path must be absolute")
    clean = posixpath.normpath(path)
    if clean in ("/", "//"):
        raise InvalidInput(f"{where}{_AT_ROOT}")
    return clean


def mount_devices(devices: Devices) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Names and configurations of disks besides the root, by their paths."""
    disks = [(name, each) for name, each in devices.items() if each.get("type") == "disk" and each.get("path") != "/"]
    return iter(sorted(disks, key=lambda each: each[1].get("path", "")))


def missing_source(error: NotFound, devices: Devices) -> IsolaError:
    """The error of a creation, as Docker words it for a bind: after 404 its client would pull the image."""
    name = (error.field or "").removeprefix("devices.").partition(".")[0]
    source = devices.get(name, {}).get("source", "")
    if devices.get(name, {}).get("type") != "disk" or not source.startswith("/"):
        return error
    return InvalidInput(
        f'invalid mount config for type "bind": bind source path does not exist: {source[:200]}', field="HostConfig"
    )
