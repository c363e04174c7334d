"""``RUN --mount`` in all its kinds; durations and sizes."""

from __future__ import annotations

import pytest

from isola.builds.dockerfile.durations import nanoseconds
from isola.builds.dockerfile.mounts import Mount, read_mount


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/x", Mount("bind", "/x", read_only=True)),
        ("type=bind,from=build,src=/a,dst=/b,rw", Mount("bind", "/b", "/a", "build")),
        ("type=bind,target=/b,readonly=false", Mount("bind", "/b")),
        ("type=cache,target=/c", Mount("cache", "/c", id="/c")),
        (
            "type=cache,id=i,target=/c,sharing=locked,mode=0700,uid=1,gid=2,ro",
            Mount("cache", "/c", id="i", read_only=True, sharing="locked", mode=0o700, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/t,size=64m", Mount("tmpfs", "/t", size=64 << 20)),
        ("type=secret,id=a", Mount("secret", "/run/secrets/a", id="a", read_only=True)),
        ("type=secret,target=/r/.key,required", Mount("secret", "/r/.key", id=".key", read_only=True, required=True)),
        ("type=secret,id=a,env=A", Mount("secret", "", id="a", read_only=True, variable="A")),
        ("type=secret,id=a,env=A,target=/a", Mount("secret", "/a", id="a", read_only=True, variable="A")),
        ("type=ssh", Mount("ssh", "", id="default", read_only=True)),
        ("type=ssh,id=k,target=/s,required=true", Mount("ssh", "/s", id="k", read_only=True, required=True)),
        ('type=bind,"source=/a,b",target=/c', Mount("bind", "/c", "/a,b", read_only=True)),
        ("TYPE=Tmpfs,Target=/t", Mount("tmpfs", "/t")),
    ],
)  # fmt: skip
def test_mounts(text: str, mount: Mount) -> None:
    assert read_mount(text) == mount


def test_variables_are_filled_in_when_the_mount_is_read() -> None:
    assert (
        read_mount("type=$T,target=$D/x", lambda text: text.replace("$T", "cache").replace("$D", "/d")).target == "/d/x"
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "type=bind", "type=volume,target=/x", "target=/x,mode=0700", "type=cache,target=/x,sharing=some",
        "type=cache,target=/x,mode=9", "type=cache,target=/x,uid=-1", "type=cache,target=/x,gid=99999999999",
        "type=tmpfs,target=/x,size=big", "type=secret", "type=secret,id=a,source=b", "type=ssh,from=x",
        "type=cache,target=/x,ro=maybe", '"', "type=bind,target=/x,required",
    ],
)  # fmt: skip
def test_wrong_mounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_mount(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1h2m3.5s", 3723_500_000_000),
        (".5ms", 500_000),
        ("1.s", 10**9),
        ("2µs", 2000),
        ("7ns", 7),
    ],
)
def test_durations(text: str, want: int) -> None:
    assert nanoseconds(text) == want


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "-1s", "1d", "1s1", "99999999999999h", "٣s"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        nanoseconds(text)
