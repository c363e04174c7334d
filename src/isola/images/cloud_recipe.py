"""What makes a Debian image one that cloud-init sets up: packages, files, and the templates of containers. Pure.

Containers get the seed by these templates, virtual machines on a disk.
"""

from __future__ import annotations

from collections.abc import Mapping

PACKAGES = ("cloud-init", "openssh-server", "sudo")
_SEED = "/var/lib/cloud/seed/nocloud-net"
FILES: Mapping[str, str] = {
    # Other sources would be asked over the network, and waited for.
    "etc/cloud/cloud.cfg.d/90-isola.cfg": "datasource_list: [NoCloud, None]\n",
}
SETUP = """\
rm -f "$root"/etc/ssh/ssh_host_*
"""


def _template(name: str, default: str) -> dict[str, object]:
    return {
        "when": ["create", "copy"],
        "create_only": False,
        "template": f"cloud-init-{name}.tpl",
        "properties": {"default": default},
    }


TEMPLATES: Mapping[str, Mapping[str, object]] = {
    f"{_SEED}/meta-data": _template("meta", ""),
    f"{_SEED}/user-data": _template("user", "#cloud-config\n{}"),
    f"{_SEED}/vendor-data": _template("vendor", "#cloud-config\n{}"),
    # The image has a configuration of its own, of all NICs.
    f"{_SEED}/network-config": _template("network", "config: disabled"),
}
TEMPLATE_FILES: Mapping[str, str] = {
    "cloud-init-meta.tpl": (
        "instance-id: {{ container.name }}\n"
        "local-hostname: {{ container.name }}\n"
        '{{ config_get("user.meta-data", "") }}\n'
    ),
    **{
        f"cloud-init-{short}.tpl": (
            f'{{{{ config_get("cloud-init.{name}", config_get("user.{name}", properties.default)) }}}}\n'
        )
        for short, name in (("user", "user-data"), ("vendor", "vendor-data"), ("network", "network-config"))
    },
}
