"""``isola build``."""

from __future__ import annotations

from isola.cli.arguments import UsageError
from isola.cli.grammar import Argument, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from isola.cli.build_caches import BuildCaches
    from isola.cli.context import Context

_TAIL = 60
"""Lines of output of a failed instruction that are shown."""
_DOCKERFILE = "dockerfile"
_MODES = ("auto", "plain")
_NO_AGENTS: Mapping[str, str] = {}


def build(context: Context) -> int:
    """Build an image from the files of a directory."""
    from isola.cli.build_output import BuildOutput

    args = context.args
    if args.flag("list-builders"):
        return _builders(context)
    mode = args.text("progress") or "auto"
    if mode not in _MODES:
        raise UsageError(f"--progress is {' or '.join(_MODES)}")
    agents = dict(map(agent, args.many("ssh")))
    checks = args.flag("check")
    output = BuildOutput("" if checks else args.text("output") or ("type=image,push=true" if args.flag("push") else ""))
    names = [*args.many("tag"), *filter(None, [output.name])]
    if output.push and not names:
        raise UsageError("An image is pushed by its name", hint="name it: -t registry.example/app:1")
    more, stream, caches = _sent(context, names)
    wanted = more | {"agents": list(agents), "output": "check" if checks else output.output}
    show = Shown(context, quiet=context.quiet, plain=mode == "plain", names=names, agents=agents)
    if checks:
        return show.checked(context.client.builds.run(wanted, stream))
    with output:
        status = show.run(context.client.builds.run(wanted, stream, output.take, caches.take))
        if status == 0:
            output.finish()
            caches.finish()
    if status == 0:
        _written(context, show.fingerprint, names)
    return _pushed(context, names) if status == 0 and output.push else status


def _sent(context: Context, names: list[str]) -> tuple[dict[str, object], Iterator[bytes], BuildCaches]:
    """Options of what the build is made from, an archive of the part that is here, and caches."""
    from isola.cli.build_caches import BuildCaches
    from isola.cli.build_context import BuildContext
    from isola.cli.named_contexts import NamedContexts, read_pairs

    args = context.args
    path, builder = args.text("PATH") or ".", args.text("builder") or _DOCKERFILE
    remote = path if is_remote(path) else ""
    found = None if path == "-" or remote else BuildContext(path, args.text("file"), needed=builder == _DOCKERFILE)
    further = NamedContexts(read_pairs(args.many("build-context")))
    caches = BuildCaches(args.many("cache-from"), args.many("cache-to"))
    for directory in caches.missing:
        context.say(f"There is no cache in {directory} yet")
    if path == "-" and (further.has_directories or caches.directories):
        raise UsageError("An archive from standard input is the only context", hint="unpack it, and name the directory")
    wanted = options(context, args.text("file") if found is None else found.dockerfile, names) | {
        "builder": builder,
        "network": args.text("network"),
        "remote": remote,
        "contexts": further.options,
        "cache_from": caches.imports,
        "cache_to": caches.exports,
        "credentials": logins(context, caches.registries()),
    }
    return wanted, _input() if path == "-" else further.stream(found, caches.directories), caches


def _written(context: Context, fingerprint: str, names: list[str]) -> None:
    """The files for scripts: ``--iidfile`` and ``--metadata-file``, as docker writes them."""
    import json

    digest = f"sha256:{fingerprint}" if fingerprint else ""
    if path := context.args.text("iidfile"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(digest)
    if path := context.args.text("metadata-file"):
        found = {"containerimage.digest": digest, "containerimage.config.digest": digest} if digest else {}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found | ({"image.name": ",".join(names)} if names else {}), file, indent=2)


def _pushed(context: Context, names: list[str]) -> int:
    from isola.cli.login import credentials
    from isola.model.image_reference import parse

    for name in names:
        full = parse(name).tagged().full
        operation = context.client.images.push(full, full, credentials=credentials(context, full))
        context.follow(operation, f"Pushing {name}")
        context.say(f"{name} is pushed: {operation.metadata.get('digest') or ''}")
    return 0


def logins(context: Context, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """What the user has for registries, by their domains."""
    from isola.cli.login import credentials
    from isola.model.image_reference import parse

    found = {parse(name).domain: credentials(context, name) for name in names}
    return {domain: each for domain, each in found.items() if each}


def is_remote(path: str) -> bool:
    """Whether the daemon fetches the context. A directory may have such a name as well."""
    from os.path import exists

    return path.startswith(("https://", "http://", "git@", "git://", "ssh://")) or (
        path.startswith("github.com/") and not exists(path)
    )


def _builders(context: Context) -> int:
    for each in context.client.builds.builders():
        context.write(f"{each.get('name')}: {each.get('description')}")
        if not each.get("available"):
            context.write(f"    does not work here: {each.get('reason')}; {each.get('remedy')}")
        found = each.get("options")
        for name, help in (found if isinstance(found, dict) else {}).items():
            context.write(f"    --build-arg {name}=...  {help}")
    return 0


def options(context: Context, dockerfile: str, names: Iterable[str]) -> dict[str, object]:
    """What the command's options say about the build."""
    args = context.args
    return {
        "names": list(names),
        "dockerfile": dockerfile,
        "target": args.text("target"),
        "platform": args.text("platform"),
        "arguments": dict(_arguments(args.many("build-arg"))),
        "labels": args.pairs("label"),
        "secrets": dict(map(_secret, args.many("secret"))),
        "no_cache": args.flag("no-cache"),
        "pull": args.flag("pull"),
    }


def _arguments(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """``NAME=VALUE``, or ``NAME`` with the value of the environment."""
    from isola.environment import variable

    for text in given:
        name, found, value = text.partition("=")
        if found:
            yield name, value
        elif (own := variable(name)) is not None:
            yield name, own


def _secret(text: str) -> tuple[str, str]:
    """``id=ID,src=FILE`` or ``id=ID,env=NAME``; without a source the variable or file of that name."""
    import base64

    from isola.environment import variable

    fields = dict(part.partition("=")[::2] for part in text.split(","))
    name = fields.get("id", "")
    file, own = fields.get("src") or fields.get("source", ""), fields.get("env", "")
    if not name:
        raise UsageError("--secret needs an id: --secret id=ID,src=FILE")
    if not file and (value := variable(own or name)) is not None:
        return name, base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
    if own and not file:
        raise UsageError(f"--secret {name}: the variable {own} is not set")
    with open(file or name, "rb") as source:
        return name, base64.b64encode(source.read()).decode()


def agent(text: str) -> tuple[str, str]:
    """``ID=SOCKET``, or ``ID`` for that of the environment."""
    import stat
    from os import stat as status_of

    from isola.environment import variable

    name, _, path = text.partition("=")
    path = path or variable("SSH_AUTH_SOCK") or ""
    if not name or not path:
        raise UsageError("--ssh needs an agent: start ssh-agent, or name its socket: --ssh default=SOCKET")
    if not stat.S_ISSOCK(status_of(path).st_mode):
        raise UsageError(f"--ssh {name}: {path} is not the socket of an agent (add keys to one by ssh-add)")
    return name, path


def _input() -> Iterator[bytes]:
    import sys

    while block := sys.stdin.buffer.read(1 << 20):
        yield block


class Shown:
    """Prints events: everything, or output of programs only where one has failed."""

    def __init__(
        self,
        context: Context,
        *,
        quiet: bool,
        plain: bool,
        names: Iterable[str],
        agents: Mapping[str, str] = _NO_AGENTS,
    ) -> None:
        import sys

        self._context = context
        self._quiet = quiet
        self._names = list(names)
        self._agents = agents
        self._all = plain or not sys.stderr.isatty()
        self._output: list[str] = []
        self._warnings = 0
        self.fingerprint = ""
        """Of the image, when it is built."""

    def run(self, events: Iterable[Mapping[str, object]]) -> int:
        """Until the last event; returns the status of the command."""
        for event in events:
            kind, text = event.get("type"), str(event.get("text", ""))
            if kind == "image":
                return self._built(str(event.get("fingerprint")))
            if kind == "done":
                return 0
            if kind == "error":
                return self._failed(text)
            if kind == "agent":
                self._asked(event)
                continue
            self._warnings += kind == "warning"
            if not self._quiet:
                self._show(str(kind), text, event)
        return self._failed("The connection to the daemon was lost")

    def checked(self, events: Iterable[Mapping[str, object]]) -> int:
        """Of ``--check``: 1 if something was found, as with docker."""
        status = self.run(events)
        if status == 0:
            found = "no warnings" if not self._warnings else f"{self._warnings} warning{'s' * (self._warnings != 1)}"
            self._context.say(f"Check complete, {found} found")
        return 1 if self._warnings else status

    def _asked(self, event: Mapping[str, object]) -> None:
        from base64 import b64decode
        from contextlib import suppress

        from isola.client.agents import Agents
        from isola.errors import NotFound

        message = b64decode(str(event.get("data", "")))
        answer = Agents(self._agents).ask(str(event.get("id", "")), message)
        with suppress(NotFound):  # the program has ended meanwhile
            self._context.client.builds.reply(str(event.get("token", "")), answer)

    def _show(self, kind: str, text: str, event: Mapping[str, object]) -> None:
        if kind == "step":
            self._output = []
            number = f"[{event.get('number')}/{event.get('total')}] " if event.get("number") else "[trigger] "
            self._print(f"{number}{text.splitlines()[0] if text else ''}\n")
        elif kind == "output" and self._all:
            self._print(text)
        elif kind == "output":
            self._output = [*self._output, text][-1000:]
        elif kind == "cached":
            self._print("  (from the cache)\n")
        elif kind == "warning":
            self._print(f"{text}\n")

    def _built(self, fingerprint: str) -> int:
        self.fingerprint = fingerprint
        if self._quiet:
            self._context.write(f"sha256:{fingerprint}")
        else:
            names = ", ".join(self._names)
            self._context.say(f"Image {fingerprint[:12]} is built" + (f": {names}" if names else ""))
        return 0

    def _failed(self, text: str) -> int:
        lines = "".join(self._output).splitlines()[-_TAIL:]
        self._print("".join(f"{line}\n" for line in lines) + f"Error: {text}\n")
        return 1

    @staticmethod
    def _print(text: str) -> None:
        import sys

        sys.stderr.write(text)
        sys.stderr.flush()


COMMANDS = (
    Command(
        "build",
        "Build an image from the files of a directory: with a Dockerfile, or with another builder",
        build,
        Argument("PATH", "The directory; `-` is a tar archive from standard input; or the address of a Git repository "
                 "or archive", optional=True, complete="paths"),
        Option("-t --tag", "A name for the image, such as app:1", value="NAME", repeat=True),
        Option("-f --file", "The Dockerfile (default: PATH/Dockerfile), or what the builder reads", value="FILE",
               complete="paths"),
        Option("--builder", "The builder (default: dockerfile); for unikernels: ipxe, make, kraft", value="NAME"),
        Option("--list-builders", "Show the builders, whether they work on the daemon's host, and their options"),
        Option("--build-arg", "A build argument, or option of the builder; NAME alone takes the environment variable",
               value="NAME=VALUE", repeat=True),
        Option("--build-context", "An additional context for FROM and --from: a directory, docker-image://NAME, "
               "or an address", value="NAME=PATH", repeat=True),
        Option("--target", "The stage to build (default: the last one)", value="STAGE"),
        Option("--no-cache", "Execute all instructions, without the cache"),
        Option("--cache-from", "A cache to import: the name of an image, type=registry,ref=NAME or type=local,src=PATH",
               value="CACHE", repeat=True),
        Option("--cache-to", "Export the cache: type=registry,ref=NAME, type=local,dest=PATH or type=inline",
               value="CACHE", repeat=True),
        Option("--secret", "For RUN --mount=type=secret: id=ID,src=FILE, or env=NAME", value="SECRET", repeat=True),
        Option("--ssh", "An agent for RUN --mount=type=ssh: default, or ID=SOCKET", value="ID", repeat=True),
        Option("-o --output", "A directory, - (tar), or type=local|tar|oci|docker|image,dest=PATH",
               value="OUTPUT"),
        Option("--check", "Show mistakes in the Dockerfile without building; fails if there are any"),
        Option("--push", "Push the image to the registries of its names"),
        Option("--iidfile", "Write the image's id to a file", value="FILE", complete="paths"),
        Option("--metadata-file", "Write digests and names to a file, in JSON", value="FILE", complete="paths"),
        Option("--platform", "The platform of base images (default: the daemon's)", value="OS/ARCH"),
        Option("--label", "A label of the image", value="KEY=VALUE", repeat=True),
        Option("--network", "The network of RUN: default, none, or the name of a network", value="NETWORK"),
        Option("--pull", "Fetch base images again"),
        Option("--progress", "plain: all output; auto: on a terminal only that of what fails", value="HOW"),
        examples=(
            ("isola build . -t app:1", "an image of the directory, named docker.io/library/app:1"),
            ("isola build -f deploy/Dockerfile --target test .", "one stage of another file"),
            ("isola build https://example.org/app.git#main:server", "a directory of a branch, fetched by the daemon"),
            ("isola build --build-context lib=../lib .", "COPY --from=lib copies files of another directory"),
            ("isola build --cache-from reg.example/c --cache-to type=registry,ref=reg.example/c .",
             "results of instructions from and for other daemons"),
            ("isola build --ssh default .", "RUN --mount=type=ssh asks your agent for signatures"),
            ("isola build --target binaries -o out .", "the files of a stage, without an image"),
            ("isola build -o type=oci,dest=app.tar -t app:1 .", "the image as an archive"),
            ("isola build --builder ipxe -t probe:1 .", "a unikernel from script.ipxe"),
            ("isola build --builder make --build-arg image=gcc -t app:1 .", "a unikernel, compiled in an image"),
            ("isola build --secret id=token,src=token.txt .", "a file that only RUN --mount=type=secret sees"),
        ),
    ),
)  # fmt: skip
