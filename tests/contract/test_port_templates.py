"""The contract of rendering templates, for the fake and the real one, which confines hostile templates."""

import signal
import sys
from pathlib import Path

import pytest

from isola.errors import InvalidInput, TimedOut
from isola.host.process import LinuxProcesses
from isola.host.templates import Job, LinuxTemplates, Rendered, Templates, Value
from isola.testing.processes import Call, FakeProcesses
from isola.testing.templates import FakeTemplates

NAME = {"container": {"name": "web1", "type": "container"}, "instance": {"name": "web1", "type": "container"}}
NETWORK = """\
{% if config_get("user.network-config", "") == "" %}version: 1
config:
  - type: physical
    name: {% if instance.type == "virtual-machine" %}enp5s0{% else %}eth0{% endif %}
    subnets:
      - type: {% if config_get("user.network_mode", "") == "link-local" %}manual{% else %}dhcp{% endif %}
        control: auto{% else %}{{ config_get("user.network-config", "") }}{% endif %}
"""
USER = """\
{%- if config_get("cloud-init.user-data", properties.default) == properties.default -%}
{{ config_get("user.user-data", properties.default) }}
{%- else -%}
{{- config_get("cloud-init.user-data", properties.default) }}
{%- endif %}
"""


@pytest.fixture(params=["fake", "linux"])
def templates(request: pytest.FixtureRequest) -> Templates:
    return FakeTemplates() if request.param == "fake" else LinuxTemplates(LinuxProcesses())


async def rendered(templates: Templates, *texts: str, properties: Value = "", **values: Value) -> list[str]:
    jobs = [Job(text, {"properties": properties, "path": "/x"}) for text in texts]
    found = await templates.render(jobs, {**NAME, "config": {}, "trigger": "create", **values})
    assert not any(each.error for each in found), found
    return [each.text for each in found]


async def test_templates_of_image_servers(templates: Templates) -> None:
    hosts = "127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n"
    first, second, meta, network, user = await rendered(
        templates,
        "{{ instance.name }}\n",
        hosts,
        '#cloud-config\ninstance-id: {{ container.name }}\n{{ config_get("user.meta-data", "") }}\n',
        NETWORK,
        USER,
        properties={"default": "#cloud-config\n{}"},
    )
    assert (first, second) == ("web1\n", hosts.replace("{{ container.name }}", "web1"))
    assert meta == "#cloud-config\ninstance-id: web1\n\n"
    assert "name: eth0\n    subnets:\n      - type: dhcp\n        control: auto\n" in network
    assert user == "#cloud-config\n{}\n"


async def test_configuration_overrides(templates: Templates) -> None:
    config = {"user.network-config": "version: 2\n\n", "user.network_mode": "link-local", "user.user-data": "<a&b>"}
    network, user = await rendered(templates, NETWORK, USER, properties={"default": "x"}, config=config)
    assert (network, user) == ("version: 2\n", "<a&b>\n")


async def test_names_of_properties_are_no_methods(templates: Templates) -> None:
    texts = (
        "{{ properties.items }}|{{ properties.get }}|{{ properties.no.such }}",
        "{{ path }} {{ trigger }} {{ nothing }}",
    )
    assert await rendered(templates, *texts, properties={"items": "i", "get": "g"}) == ["i|g|", "/x create "]
    keys = "{% for key in properties %}{{ key }}={{ properties[key] }} {% endfor %}{{ 'a' in properties }}"
    assert await rendered(templates, keys, properties={"a": "1", "b": "2"}) == ["a=1 b=2 True"]


async def test_filters_take_arguments_as_in_django(templates: Templates) -> None:
    text = "{{ nothing|default:\"a b\"|upper }} {% if nothing|default:'x' == 'x' %}yes{% endif %} |default:'as it is'"
    assert await rendered(templates, text) == ["A B yes |default:'as it is'"]


@pytest.mark.parametrize(
    "text",
    [
        "{% if %}", "{{ unclosed", "{% include '/etc/passwd' %}", "{% extends 'x' %}", "{{ 1/0 }}", "{{ trigger() }}",
        "{{ config_get.__globals__ }}{{ config_get.__globals__.x() }}", "{{ container._values.clear() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ ''.format.__self__.__class__.__base__() }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(config_get)() }}", "{{ range(10) }}", "{{ self.__init__() }}",
        "{% for a in config_get('x', 'ab' * 2000000) %}{{ a }}{% endfor %}",
    ],
)  # fmt: skip
async def test_a_failing_template_has_a_reason_and_does_not_affect_others(templates: Templates, text: str) -> None:
    bad, good = await templates.render([Job(text), Job("{{ container.name }}")], NAME | {"config": {}})
    assert bad.error and not bad.text
    assert good == Rendered("web1")


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 100000000000 }}",
        "{{ ('x' * 200000000)|list|length }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
        "{% if a %}" * 3000,
    ],
    ids=["memory", "list", "time", "nested", "blocks"],
)
async def test_a_template_has_no_more_time_or_memory_than_it_needs(text: str) -> None:
    """It ends soon, as does the confined process. An endless loop is tried on a whole system, in ``tests/e2e``."""
    try:
        (found,) = await LinuxTemplates(LinuxProcesses()).render([Job(text)], {"config": {}})
        assert found.error
    except InvalidInput as error:
        assert "limits on time or memory" in error.message


async def test_a_busy_host_is_no_failure_of_the_host() -> None:
    async def too_slow(call: Call) -> int:
        return -signal.SIGALRM

    with pytest.raises(TimedOut):
        await LinuxTemplates(FakeProcesses({Path(sys.executable).name: too_slow})).render([Job("x")], {})


async def test_the_daemon_does_not_load_the_library() -> None:
    code = "import sys, isola.daemon.main, isola.daemon.build, isola.host.linux; print('jinja2' in sys.modules)"
    done = await LinuxProcesses().run([sys.executable, "-c", code])
    assert done.stdout == b"False\n"
