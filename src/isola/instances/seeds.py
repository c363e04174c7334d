"""What cloud-init of a virtual machine finds on its disk with the label ``cidata``, by the keys that LXD has. Pure.

Containers get the same by templates of their images.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from textwrap import wrap

from isola.errors import InvalidInput
from isola.model.agent_service import SEED_HOSTNAME, installer
from isola.model.instance import Config
from isola.settings import Setting

MOST_DATA = 256 << 10
"""Bytes of each of its files that a user gives."""
_NOTHING = "#cloud-config\n{}\n"
_WITH_HEADERS = ("content-type:", "mime-version:")


def _data(value: str) -> str:
    if "\0" in value or _size(value) > MOST_DATA:
        raise ValueError(f"expected a text of at most {MOST_DATA >> 10} KiB")
    return value


CLOUD = tuple(
    Setting(
        f"cloud-init.{name}",
        _data,
        f"{what} of cloud-init, in images that have it. `user.{name}` is used where this is not set.",
        expects=f"a text of at most {MOST_DATA >> 10} KiB",
    )
    for name, what in (
        ("user-data", "User data"),
        ("vendor-data", "Vendor data"),
        ("network-config", "Network configuration"),
    )
)
"""Rows of the table of instances."""


def seed_of(id: str, hostname: str, config: Config) -> Mapping[str, str]:
    """Path on the disk -> text. cloud-init sets up an instance once more when one of these texts changes.

    Raises InvalidInput for a text that is too long.
    """
    user, vendor = _given(config, "user-data"), _given(config, "vendor-data")
    network, more = _given(config, "network-config"), _checked(config, "user.meta-data")
    digest = hashlib.sha256("\0".join((hostname, user, vendor, network, more)).encode()).hexdigest()
    found = {
        "user-data": user or _NOTHING,
        "meta-data": f"instance-id: {id}-{digest[:12]}\nlocal-hostname: {hostname}\n{more}\n",
        "vendor-data": _with_installer(vendor),
        SEED_HOSTNAME: f"{hostname}\n",
    }
    return found | ({"network-config": network} if network else {})


def _given(config: Config, name: str) -> str:
    key = f"cloud-init.{name}"
    return _checked(config, key if config.get(key) else f"user.{name}")


def _checked(config: Config, key: str) -> str:
    value = config.get(key, "")
    try:
        return _data(value)
    except ValueError as error:
        raise InvalidInput(
            f"The value of {key} cannot be given to the guest", evidence=str(error), field=f"config.{key}"
        ) from None


def _size(value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("expected a text of characters that there are") from None


def _with_installer(vendor: str) -> str:
    """With our agent's, in two parts; cloud-init finds out by itself what each is.

    Data that has parts already stays as it is: then the image has to have the agent's service.
    """
    if vendor.lstrip().lower().startswith(_WITH_HEADERS):
        return vendor
    parts = [_encoded(text) for text in (vendor, installer()) if text]
    end = f"isola-{hashlib.sha256(''.join(parts).encode()).hexdigest()[:32]}"
    head = f'Content-Type: multipart/mixed; boundary="{end}"\nMIME-Version: 1.0\n\n'
    return head + "".join(f"--{end}\n{part}\n" for part in parts) + f"--{end}--\n"


def _encoded(text: str) -> str:
    lines = "\n".join(wrap(base64.b64encode(text.encode()).decode(), 76))
    return f'Content-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: base64\n\n{lines}\n'
