"""Compose files as a whole: long forms, merging, extends, include, checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from isola.cli.compose.stored import check, content
from isola.compose.application import Application, load, order
from isola.compose.loading import Source
from isola.compose.rendering import rendered
from isola.errors import InvalidInput

_DIRECTORY = Path("/srv/Shop App")


def _load(files: str | Mapping[str, str], *names: str, **options: Any) -> Application:
    texts = {"compose.yaml": files} if isinstance(files, str) else files
    known = {_DIRECTORY / name: dedent(text) for name, text in texts.items()}

    def read(path: Path) -> str:
        if path not in known:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return known[path]

    environment = options.pop("environment", {})
    chosen = [_DIRECTORY / name for name in names or ("compose.yaml",)]
    return load(chosen, _DIRECTORY, environment, Source(read, "/home/me", options.pop("warn", print)), **options)


def _service(text: str, **options: Any) -> dict[str, Any]:
    body = "\n".join(f"    {line}" for line in dedent(text).strip().splitlines())
    more = "\nvolumes: {data: {}}\nsecrets: {s: {content: x}}\nnetworks: {a: {}, b: {}}\n"
    return dict(_load(f"services:\n  web:\n    image: i\n{body}{more}", **options).services["web"])


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("command: run -x 'a b'", "command", ["run", "-x", "a b"]),
        ("command: []", "command", []),
        ("environment: [A=1, B=, C]", "environment", {"A": "1", "B": ""}),
        ("environment: {A: 1, B: true, C: , D: 1.5}", "environment", {"A": "1", "B": "true", "D": "1.5"}),
        ("labels: [a.b=c=d, e]", "labels", {"a.b": "c=d", "e": ""}),
        ("networks: [a, b]", "networks", {"a": None, "b": None}),
        ("dns: 192.0.2.1", "dns", ["192.0.2.1"]),
        ("tmpfs: /run", "tmpfs", ["/run"]),
        ("expose: [80, 81-82]", "expose", ["80", "81-82"]),
        ("ulimits: {nofile: 10, nproc: {soft: 1, hard: 2}}", "ulimits",
         {"nofile": {"soft": 10, "hard": 10}, "nproc": {"soft": 1, "hard": 2}}),
        ("extra_hosts: ['a:192.0.2.1', 'a=2001:db8::1', 'b=[2001:db8::2]']", "extra_hosts",
         {"a": ["192.0.2.1", "2001:db8::1"], "b": ["2001:db8::2"]}),
        ("devices: ['/dev/fuse', '/dev/a:/dev/b:r']", "devices",
         [{"source": "/dev/fuse", "target": "/dev/fuse", "permissions": "rwm"},
          {"source": "/dev/a", "target": "/dev/b", "permissions": "r"}]),
        ("secrets: [s]", "secrets", [{"source": "s"}]),
        ("healthcheck: {test: 'true', interval: 1m30s, timeout: 500ms}", "healthcheck",
         {"test": ["CMD-SHELL", "true"], "interval": 90.0, "timeout": 0.5}),
        ("mem_limit: 512m", "mem_limit", 512 << 20),
        ("shm_size: '1.5gb'", "shm_size", 3 << 29),
        ("mem_limit: '${M:-1g}'", "mem_limit", 1 << 30),
        ("privileged: '${P:-false}'", "privileged", False),
        ("cpus: '0.5'", "cpus", 0.5),
        ("x-mine: {anything: [1]}", "x-mine", None),
    ],
)  # fmt: skip
def test_short_forms_become_long_ones(text: str, key: str, found: object) -> None:
    assert _service(text).get(key) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", [{"target": 80}]),
        ("8080:80", [{"target": 80, "published": "8080"}]),
        ("127.0.0.1:8080:80/udp", [{"target": 80, "published": "8080", "host_ip": "127.0.0.1", "protocol": "udp"}]),
        ("127.0.0.1::80", [{"target": 80, "host_ip": "127.0.0.1"}]),
        ("'[::1]:8080:80'", [{"target": 80, "published": "8080", "host_ip": "::1"}]),
        ("9090-9091:80-81", [{"target": 80, "published": "9090"}, {"target": 81, "published": "9091"}]),
        ("3000-3001", [{"target": 3000}, {"target": 3001}]),
        ("9000-9005:80", [{"target": 80, "published": "9000-9005"}]),
    ],
)
def test_ports(text: str, found: list[dict[str, object]]) -> None:
    common = {"mode": "ingress", "protocol": "tcp"}
    assert _service(f"ports: [{text}]")["ports"] == [{**common, **each} for each in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/var/lib/x", {"type": "volume", "target": "/var/lib/x"}),
        ("data:/d:ro", {"type": "volume", "source": "data", "target": "/d", "read_only": True}),
        ("data:/d:nocopy", {"type": "volume", "source": "data", "target": "/d", "volume": {"nocopy": True}}),
        ("./src:/src", {"type": "bind", "source": "/srv/Shop App/src", "target": "/src",
                        "bind": {"create_host_path": True}}),
        ("~/x:/x:z,rslave", {"type": "bind", "source": "/home/me/x", "target": "/x",
                             "bind": {"create_host_path": True, "selinux": "z", "propagation": "rslave"}}),
        ("../../../../etc:/e", {"type": "bind", "source": "/etc", "target": "/e", "bind": {"create_host_path": True}}),
    ],
)  # fmt: skip
def test_volumes(text: str, found: dict[str, object]) -> None:
    assert _service(f"volumes: ['{text}']")["volumes"] == [found]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("imag: x", "services.web.imag"),
        ("ports: ['a:b']", "ports"),
        ("ports: ['1-3:1-2']", "ports"),
        ("ports: [99999]", "ports"),
        ("volumes: ['a:b:c:d']", "volumes"),
        ("volumes: ['data:/d:odd']", "volumes"),
        ("volumes: ['other:/d']", "volumes"),
        ("privileged: maybe", "services.web.privileged"),
        ("mem_limit: much", "services.web.mem_limit"),
        ("environment: 5", "services.web.environment"),
        ("depends_on: [nothing]", "depends_on"),
        ("networks: [c]", "networks"),
        ("secrets: [t]", "secrets"),
        ("command: 'a \"b'", "services.web"),
        ("healthcheck: {interval: soon}", "services.web.healthcheck.interval"),
        ("extends: {service: none}", "extends"),
        ("network_mode: host\nnetworks: [a]", "network_mode"),
        ("links: [gone]", "depends_on"),
        ("image: ${X:?set X}", "services.web.image"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    text = text if text.startswith("image:") else f"image: i\n{text}"
    body = "\n".join(f"    {line}" for line in text.splitlines())
    with pytest.raises(InvalidInput) as error:
        _load(f"services:\n  web:\n{body}\nvolumes: {{data: {{}}}}\nnetworks: {{a: {{}}}}\n")
    assert named in (error.value.field or "")


def test_names_on_the_server() -> None:
    found = _load(
        """
        services: {web: {image: i}, db: {image: i, network_mode: none}}
        networks: {front: {}, outer: {external: true}, third: {name: mine}}
        volumes: {data: }
        """
    )
    assert found.name == "shopapp"
    assert {key: each["name"] for key, each in found.networks.items()} == {
        "front": "shopapp_front", "outer": "outer", "third": "mine", "default": "shopapp_default",
    }  # fmt: skip
    assert found.volumes["data"]["name"] == "shopapp_data"
    assert found.services["web"]["networks"] == {"default": None}
    assert "networks" not in found.services["db"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "shop"),
        ({"environment": {"COMPOSE_PROJECT_NAME": "env"}}, "env"),
        ({"name": "given", "environment": {"COMPOSE_PROJECT_NAME": "env"}}, "given"),
    ],
)
def test_the_name_of_the_application(options: dict[str, Any], name: str) -> None:
    assert _load("name: shop\nservices: {web: {image: i}}", **options).name == name
    with pytest.raises(InvalidInput):
        _load("services: {web: {image: i}}", name="Not This")


def test_files_are_merged() -> None:
    found = _load(
        {
            "compose.yaml": """
                services:
                  web:
                    image: one
                    command: [a]
                    ports: ["80:80"]
                    volumes: ["data:/d:ro", "./x:/x"]
                    environment: {A: "1", B: "2", C: "3"}
                    dns: [192.0.2.1]
                    logging: {driver: json-file, options: {max-size: 1m}}
                    labels: {kept: "yes"}
                    depends_on: [db]
                  db: {image: d}
                volumes: {data: {}}
                """,
            "more.yaml": """
                services:
                  web:
                    image: two
                    command: [b]
                    ports: ["81:81", "80:80"]
                    volumes: ["./other:/d"]
                    environment: [B=9, C=!]
                    dns: [192.0.2.2]
                    logging: {driver: local}
                    depends_on: {db: {condition: service_healthy}}
                    labels: !reset null
                """,
        },
        "compose.yaml",
        "more.yaml",
    ).services["web"]
    assert (found["image"], found["command"], found["dns"]) == ("two", ["b"], ["192.0.2.1", "192.0.2.2"])
    assert [each["published"] for each in found["ports"]] == ["80", "81"]
    assert [(each["source"], each["target"]) for each in found["volumes"]] == [
        ("/srv/Shop App/other", "/d"), ("/srv/Shop App/x", "/x"),
    ]  # fmt: skip
    assert "read_only" not in found["volumes"][0], "an entry takes the place of the other as a whole"
    assert found["environment"] == {"A": "1", "B": "9", "C": "!"}
    assert found["logging"] == {"driver": "local"}
    assert found["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert "labels" not in found


def test_override_replaces_and_reset_removes() -> None:
    found = _load(
        {
            "compose.yaml": "services: {web: {image: i, ports: ['80:80'], environment: {A: a, B: b}}, old: {image: i}}",
            "more.yaml": "services: {web: {ports: !override ['81:81'], environment: {A: !reset null}}, old: !reset {}}",
        },
        "compose.yaml",
        "more.yaml",
    )
    assert [each["published"] for each in found.services["web"]["ports"]] == ["81"]
    assert found.services["web"]["environment"] == {"B": "b"}
    assert list(found.services) == ["web"]


def test_services_extend_others() -> None:
    found = _load(
        {
            "compose.yaml": """
                services:
                  web:
                    extends: {file: common/base.yaml, service: base}
                    environment: {B: web}
                  near: {extends: web, image: other}
                """,
            "common/base.yaml": """
                services:
                  root: {image: r, volumes: ["./here:/h"], env_file: vars.env, depends_on: [other]}
                  base: {extends: root, environment: {A: base, B: base}}
                """,
            "common/vars.env": "FROM_FILE=1\nA=file\n",
        }
    ).services
    assert found["web"]["volumes"][0]["source"] == "/srv/Shop App/common/here"
    assert found["web"]["environment"] == {"FROM_FILE": "1", "A": "base", "B": "web"}
    assert "depends_on" not in found["web"], "it names a service of another file"
    assert (found["near"]["image"], found["near"]["environment"]["B"]) == ("other", "web")


def test_a_service_does_not_extend_itself() -> None:
    with pytest.raises(InvalidInput, match="extends itself"):
        _load("services: {a: {extends: b}, b: {extends: a}}")


def test_other_applications_are_included() -> None:
    found = _load(
        {
            "compose.yaml": """
                include:
                - db/compose.yaml
                - {path: [cache/a.yaml, cache/b.yaml], env_file: cache/vars, project_directory: cache}
                services: {web: {image: i, depends_on: [db, cache]}}
                """,
            "db/compose.yaml": "services: {db: {image: 'd:$V', volumes: ['./x:/x', 'data:/d']}}\nvolumes: {data: {}}",
            "db/.env": "V=15\n",
            "cache/a.yaml": "services: {cache: {image: 'c:$V'}}",
            "cache/b.yaml": "services: {cache: {read_only: true}}",
            "cache/vars": "V=7\n",
        },
        environment={},
    )
    assert order(found) == ["db", "cache", "web"]
    assert found.services["db"]["image"] == "d:15"
    assert found.services["db"]["volumes"][0]["source"] == "/srv/Shop App/db/x"
    assert found.services["cache"] == {"image": "c:7", "read_only": True, "networks": {"default": None}}
    assert found.volumes["data"]["name"] == "shopapp_data"


@pytest.mark.parametrize(
    "files",
    [
        {"compose.yaml": "include: [b.yaml]\nservices: {web: {image: i}}", "b.yaml": "services: {web: {image: j}}"},
        {"compose.yaml": "include: [b.yaml]", "b.yaml": "include: [compose.yaml]"},
        {"compose.yaml": "include: [none.yaml]"},
        {"compose.yaml": "include: [{env_file: x}]"},
        {"compose.yaml": "include: 5"},
    ],
)
def test_impossible_inclusions_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        _load(files)


def test_profiles_choose_services() -> None:
    text = """
        services:
          web: {image: i}
          debug: {image: i, profiles: [dev], depends_on: [web]}
          load: {image: i, profiles: [test]}
        """
    assert list(_load(text).services) == ["web"]
    assert list(_load(text, profiles=["dev"]).services) == ["web", "debug"]
    assert list(_load(text, profiles=["*"]).services) == ["web", "debug", "load"]
    assert list(_load(text, services=["load"]).services) == ["web", "load"]


def test_a_dependency_of_another_profile_is_refused_unless_optional() -> None:
    text = """
        services:
          web: {{image: i, depends_on: {{tool: {{condition: service_started{more}}}}}}}
          tool: {{image: i, profiles: [p]}}
        """
    with pytest.raises(InvalidInput, match="profile"):
        _load(text.format(more=""))
    assert order(_load(text.format(more=", required: false"))) == ["web"]


def test_the_order_follows_dependencies() -> None:
    found = _load(
        """
        services:
          a: {image: i, links: ["b:alias"], volumes_from: ["c:ro"], network_mode: "service:d"}
          b: {image: i}
          c: {image: i, depends_on: [b]}
          d: {image: i}
          e: {image: i}
        """
    )
    assert order(found) == ["b", "c", "d", "a", "e"]
    assert order(found, ["c"]) == ["b", "c"]
    with pytest.raises(InvalidInput):
        order(found, ["x"])


def test_cycles_are_refused() -> None:
    with pytest.raises(InvalidInput, match="depend on each other"):
        _load("services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}")


def test_environment_files_of_services() -> None:
    files = {
        "compose.yaml": """
            services:
              web:
                image: i
                env_file: [one.env, {path: none.env, required: false}, {path: raw.env, format: raw}]
                environment: [OWN, B=own]
            """,
        "one.env": "A=1\nB=2\nREF=${OWN}-${A}\n",
        "raw.env": "RAW=$A\n",
    }
    found = _load(files, environment={"OWN": "mine"}).services["web"]["environment"]
    assert found == {"A": "1", "B": "own", "REF": "mine-1", "RAW": "$A", "OWN": "mine"}
    del files["one.env"]
    with pytest.raises(InvalidInput, match=r"one\.env"):
        _load(files)


def test_unset_variables_are_warned_of() -> None:
    warnings: list[str] = []
    assert _load("services: {web: {image: 'i$TAG'}}", warn=warnings.append).services["web"]["image"] == "i"
    assert warnings == ["Variable TAG is not set: empty"]


def test_secrets_and_configs_have_one_origin() -> None:
    text = "services: {{web: {{image: i, secrets: [s]}}}}\nsecrets: {{s: {{{}}}}}"
    assert _load(text.format("file: ./s.txt")).secrets["s"]["file"] == "/srv/Shop App/s.txt"
    for wrong in ("", "file: a, content: b"):
        with pytest.raises(InvalidInput):
            _load(text.format(wrong))


def test_values_of_secrets_are_those_of_variables_of_files_too() -> None:
    text = "services: {web: {image: i, secrets: [s, t]}}\nsecrets: {s: {environment: ONE}, t: {environment: TWO}}"
    found = _load(text, environment={"ONE": "1", "OTHER": "x"})
    assert found.variables == {"ONE": "1"} and "1" not in str(found.document()["secrets"])
    assert content(found, "secrets", "s") == b"1"
    with pytest.raises(InvalidInput, match=r"Variable TWO of secrets\.t is not set"):
        check(found, "web")
    check(_load(text, environment={"ONE": "1", "TWO": "2"}), "web")


def test_many_services_may_extend_one_file() -> None:
    services = ", ".join(f"s{at}: {{extends: {{file: base.yaml, service: base}}}}" for at in range(200))
    found = _load({"compose.yaml": f"services: {{{services}}}", "base.yaml": "services: {base: {image: i}}"})
    assert {each["image"] for each in found.services.values()} == {"i"}


def test_what_is_printed_can_be_read_again() -> None:
    text = """
        services:
          web:
            image: i
            command: echo $$HOME
            environment: {PRICE: "5$$"}
            healthcheck: {test: x, interval: 1m30s, timeout: 500ms}
            stop_grace_period: 2h
            ports: ["8080:80", "90"]
            volumes: ["data:/d:ro", "./x:/x", {type: tmpfs, target: /t, tmpfs: {mode: 01777}}]
            configs: [{source: c, mode: 0440}]
            ulimits: {nofile: 5}
            extra_hosts: ["a:192.0.2.1"]
            depends_on: [db]
          db: {image: i}
        volumes: {data: {}}
        configs: {c: {content: "a $$b"}}
        """
    first = _load(text).document()
    again = _load(yaml.safe_dump(rendered(first))).document()
    assert again == first and rendered(first)["services"]["web"]["healthcheck"] == {
        "test": ["CMD-SHELL", "x"], "interval": "90s", "timeout": "0.5s",
    }  # fmt: skip


def test_names_come_from_files_in_the_form_of_names_and_can_be_referred_to() -> None:
    found = _load("name: My_Shop${N:-}\nservices: {a: {image: 'x:${COMPOSE_PROJECT_NAME}'}}")
    assert (found.name, found.services["a"]["image"]) == ("my_shop", "x:my_shop")
    found = _load("services: {a: {image: 'x:${COMPOSE_PROJECT_NAME}'}}", name="other")
    assert (found.name, found.services["a"]["image"]) == ("other", "x:other")
    with pytest.raises(InvalidInput):
        _load("services: {a: {image: x}}", name="Other")


def test_modes_in_strings_are_octal_and_external_resources_of_older_files_have_their_names() -> None:
    found = _load(
        """
        services: {a: {image: x, secrets: [{source: s, mode: "0400"}], networks: [n]}}
        secrets: {s: {content: x}}
        networks: {n: {external: {name: old}}}
        """
    )
    assert found.services["a"]["secrets"][0]["mode"] == 0o400
    assert found.networks["n"] == {"external": True, "name": "old"}


def test_lists_of_names_have_each_once() -> None:
    found = _service("cap_add: [A, B, A]\ndns: [192.0.2.1, 192.0.2.1]")
    assert (found["cap_add"], found["dns"]) == (["A", "B"], ["192.0.2.1"])


def test_a_service_uses_its_own_variables_in_environment_files() -> None:
    files = {"compose.yaml": "services: {a: {image: x, env_file: e, environment: {A: own}}}", "e": 'A=1\nB="${A}"\n'}
    assert _load(files).services["a"]["environment"] == {"A": "own", "B": "own"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("healthcheck: {test: [curl, x]}", "CMD-SHELL"),
        ("pull_policy: every_moment", "pull_policy"),
        ("ports: ['80:80:80:80']", "is not an IP address"),
        ("scale: 2\ndeploy: {replicas: 3}", "different values"),
        ("mem_limit: 1g\ndeploy: {resources: {limits: {memory: 2g}}}", "different values"),
        ("tmpfs: [/a/]\nvolumes: ['data:/a']", "two mounts at /a"),
        ("secrets: [{source: s, mode: '0888'}]", "0440"),
    ],
)
def test_contradictions_are_refused_when_the_file_is_read(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _service(text)
    assert said in f"{caught.value} {caught.value.evidence}"


def test_names_of_services_are_restricted() -> None:
    with pytest.raises(InvalidInput, match="Invalid name of a service"):
        _load("services: {'a b': {image: x}}")


def test_services_of_other_profiles_are_known_so_that_their_instances_are_no_orphans() -> None:
    found = _load("services: {a: {image: x}, b: {image: x, profiles: [p]}}")
    assert (list(found.services), sorted(found.inactive)) == (["a"], ["b"])
