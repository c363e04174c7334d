"""Changes of an image's configuration by Dockerfile instructions."""

from __future__ import annotations

import pytest

from isola.errors import InvalidInput
from isola.images.instructions import apply
from isola.model.image import TYPE_LABEL, HealthCheck, ImageConfig

BASE = ImageConfig(command=("/app", "-v"), entrypoint=("/app",), environment={"PATH": "/bin"}, cwd="/srv")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["CMD [\"-q\", \"x y\"]"], {"command": ("/app", "-q", "x y")}),
        (["CMD echo $HOME"], {"command": ("/app", "/bin/sh", "-c", "echo $HOME")}),
        (["ENTRYPOINT [\"/other\"]"], {"entrypoint": ("/other",), "command": ("/other",)}),
        (["CMD [\"a\"]", "ENTRYPOINT [\"/o\"]"], {"entrypoint": ("/o",), "command": ("/o", "a")}),
        (["ENTRYPOINT []"], {"entrypoint": (), "command": ()}),
        (["ENV A=1 B='two words' PATH=$PATH:/x"], {"environment": {"PATH": "/bin:/x", "A": "1", "B": "two words"}}),
        (["env OLD form of it"], {"environment": {"PATH": "/bin", "OLD": "form of it"}}),
        (["EXPOSE 80 53/udp"], {"exposed_ports": ("53/udp", "80/tcp")}),
        (["LABEL a=b", "LABEL \"c d\"=\"e f\""], {"labels": {"a": "b", "c d": "e f"}}),
        (["ONBUILD RUN make"], {"on_build": ("RUN make",)}),
        (["USER alice:staff"], {"user": "alice:staff"}),
        (["VOLUME /a /b", "VOLUME [\"/c d\"]"], {"volumes": ("/a", "/b", "/c d")}),
        (["WORKDIR sub", "WORKDIR deep"], {"cwd": "/srv/sub/deep"}),
        (["WORKDIR /x\nUSER 7"], {"cwd": "/x", "user": "7"}),
        (["STOPSIGNAL SIGINT"], {"stop_signal": "SIGINT"}),
        (["SHELL [\"/bin/bash\", \"-c\"]", "CMD x"], {"shell": ("/bin/bash", "-c")}),
        (["HEALTHCHECK NONE"], {"health_check": HealthCheck(disabled=True)}),
        (
            ["HEALTHCHECK --interval=1m30s --retries=4 CMD curl -f localhost"],
            {
                "health_check": HealthCheck(
                    ("/bin/sh", "-c", "curl -f localhost"), True, interval=90 * 10**9, retries=4
                )
            },
        ),
        (["HEALTHCHECK CMD [\"true\"]"], {"health_check": HealthCheck(("true",))}),
    ],
)  # fmt: skip
def test_each_instruction_changes_its_field(changes: list[str], expected: dict[str, object]) -> None:
    found = apply(BASE, changes)
    assert {name: getattr(found, name) for name in expected} == expected


def test_no_changes_leave_it_as_it_is() -> None:
    assert apply(BASE, []) == BASE


@pytest.mark.parametrize(
    "change",
    [
        "RUN rm -rf /", "FROM x", "COPY a b", "CMD", "ENV", "ENV A", "ENV A=1 B", "LABEL =x", "EXPOSE http",
        "VOLUME data", "USER a b", "SHELL bash", "ONBUILD ONBUILD RUN x", "HEALTHCHECK CMD",
        "HEALTHCHECK --every=3s CMD x",
        "HEALTHCHECK --interval=soon CMD x", "ENV A='open", "USER a\0b",
    ],
)  # fmt: skip
def test_others_are_refused(change: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        apply(BASE, [change])
    assert refused.value.field == "changes"


def test_there_is_a_bound() -> None:
    with pytest.raises(InvalidInput, match="Too many"):
        apply(BASE, ["USER x"] * 101)


SYSTEM = ImageConfig(
    system=True, command=("/sbin/init",), stop_signal="SIGRTMIN+3", labels={TYPE_LABEL: "system", "a": "b"}
)


@pytest.mark.parametrize("change", ['CMD ["/srv/app"]', 'ENTRYPOINT ["/srv/app"]'])
def test_another_program_than_the_init_makes_an_image_of_a_program(change: str) -> None:
    found = apply(SYSTEM, [change])
    assert (found.system, found.stop_signal, found.labels) == (False, "SIGTERM", {"a": "b"})
    assert apply(SYSTEM, ["STOPSIGNAL SIGINT", change]).stop_signal == "SIGINT"


@pytest.mark.parametrize("change", ['CMD ["/lib/systemd/systemd"]', "ENV A=1"])
def test_an_init_stays_the_init_of_a_system(change: str) -> None:
    found = apply(SYSTEM, [change])
    assert (found.system, found.stop_signal, found.labels) == (True, "SIGRTMIN+3", SYSTEM.labels)
