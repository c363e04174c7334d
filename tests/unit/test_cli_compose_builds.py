"""What builds of services have."""

from __future__ import annotations

import pytest

from isola.cli.compose.builds import agents_of, build_config
from isola.errors import InvalidInput


def test_agents_are_named_in_both_forms() -> None:
    assert agents_of({}) == []
    assert agents_of({"ssh": ["default", "key=/run/agent"]}) == ["default", "key=/run/agent"]
    assert agents_of({"ssh": {"default": None, "key": "/run/agent"}}) == ["default", "key=/run/agent"]
    with pytest.raises(InvalidInput):
        agents_of({"ssh": 5})


def test_limits_and_names_of_builds_are_keys_of_their_instances() -> None:
    spec = {"ulimits": {"nofile": {"soft": 5, "hard": -1}}, "shm_size": 1024, "extra_hosts": {"h": ["192.0.2.1"]}}
    assert build_config(spec) == {
        "isola.shm.size": "1024", "isola.hosts": "h=192.0.2.1", "limits.kernel.nofile": "5:unlimited"
    }  # fmt: skip
