"""Configuration keys of virtual machines: firmware, agent, memory. What LXD has and Isola refuses has its reason."""

from __future__ import annotations

from collections.abc import Mapping

from isola.errors import InvalidInput
from isola.model.instance import Config
from isola.settings import Parser, Setting, boolean

_NO = ("false", "no", "0", "off")
_REQUIRED = "requirements.secureboot"
"""The property of images by which LXD's say that their boot loader is not signed."""
SECURE_BOOT, CSM, AGENT_METRICS = "security.secureboot", "security.csm", "security.agent.metrics"


def off(why: str) -> Parser:
    """Only ``false``: the reason is the error."""

    def parse(value: str) -> bool:
        if value.lower() in _NO:
            return False
        raise ValueError(f"false, because {why}, is expected")

    return parse


def refused(why: str) -> Parser:
    """No value at all."""

    def parse(value: str) -> str:
        raise ValueError(f"no value, because {why}, is expected")

    return parse


_RAW = "hypervisors get exactly the options that Isola has checked"
MACHINE = (
    Setting(
        SECURE_BOOT,
        boolean,
        "Whether the firmware of a virtual machine starts only boot loaders with a signature that it knows.",
        "true",
    ),
    Setting(
        CSM,
        boolean,
        "Whether a virtual machine has a BIOS in place of UEFI, for systems that boot by nothing else; needs "
        f"`{SECURE_BOOT}=false`.",
        "false",
    ),
    Setting(
        AGENT_METRICS,
        boolean,
        "Whether the agent in a guest with a kernel of its own is asked for its interfaces and addresses.",
        "true",
        live=True,
    ),
    Setting(
        "agent.nic_config",
        off("images name and configure NICs themselves, by what cloud-init gets"),
        "Names and MTUs of NICs set by the agent, which is not offered.",
        "false",
    ),
    Setting(
        "limits.memory.hugepages",
        off("the memory of guests is not taken from huge pages"),
        "Memory from huge pages, which is not offered.",
        "false",
    ),
    Setting(
        "boot.debug_edk2",
        off("there is no firmware with messages for developers"),
        "Messages of the firmware, which are not offered.",
        "false",
    ),
    *(
        Setting(key, refused(_RAW), f"{what}, which are not passed on.")
        for key, what in (("raw.qemu", "Further options of QEMU"), ("raw.qemu.conf", "Further settings of QEMU"))
    ),
)


def check_firmware(config: Config) -> None:
    """Raises InvalidInput for a BIOS that had to check signatures."""
    if boolean(config.get(CSM) or "false") and boolean(config.get(SECURE_BOOT) or "true"):
        raise InvalidInput(
            "A BIOS has no secure boot", field=f"config.{CSM}", remedy=f"set {SECURE_BOOT}=false too, or unset {CSM}"
        )


def check_image(config: Config, properties: Mapping[str, str]) -> None:
    """Raises InvalidInput if an image says that it does not start with secure boot, which the machine would have."""
    if properties.get(_REQUIRED, "").lower() in _NO and boolean(config.get(SECURE_BOOT) or "true"):
        raise InvalidInput(
            "The image cannot start with secure boot",
            evidence=f"it has the property {_REQUIRED}=false",
            field=f"config.{SECURE_BOOT}",
            remedy=f"set {SECURE_BOOT}=false",
        )
