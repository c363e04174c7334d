"""``isola launch`` and ``isola create``."""

from __future__ import annotations

from isola.cli.arguments import UsageError, pairs
from isola.cli.grammar import Argument, Command, Option
from isola.cli.login import pull_if_private
from isola.cli.readiness import OPTIONS as WAIT_OPTIONS
from isola.cli.readiness import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.operations import Operation

ISOLATIONS = ("container", "sandbox", "microvm", "vm", "unikernel")
"""As ``model.isolation``, which would take time to import."""
IMAGE = Argument(
    "IMAGE", "Alias or fingerprint; a known name such as debian/12 is built if it is missing", complete="images"
)
OPTIONS = (
    Option("-c --config", "A configuration key", value="KEY=VALUE", repeat=True, complete="instance-keys"),
    Option("-d --device", "A device, or keys of a profile's device", value="NAME,KEY=VALUE,...", repeat=True),
    Option("-p --profile", "A profile to use instead of 'default'", value="NAME", repeat=True, complete="profiles"),
    Option("--no-profiles", "Use no profile"),
    Option("-m --memory", "Memory limit, as in 512MiB", value="SIZE"),
    Option("--cpu", "Number of CPUs, or a list of them: 0-1,3", value="CPUS"),
    Option("--processes", "Maximum number of processes", value="NUMBER"),
    Option("-n --network", "Network of eth0", value="NAME", complete="networks"),
    Option("-s --storage", "Storage pool of the root disk", value="NAME", complete="pools"),
    Option("-i --isolation", "Kind of isolation (default: that of the profiles)", value="KIND", choices=ISOLATIONS),
    Option("--vm", "The same as --isolation vm"),
    Option("--runtime", "Runtime driver, where several offer this isolation", value="NAME"),
    Option("--description", "A description", value="TEXT"),
    Option("-e --ephemeral", "Delete it when it stops"),
)
_LIMITS = {"memory": "limits.memory", "cpu": "limits.cpu", "processes": "limits.processes"}


def begin(
    context: Context, *, image: str | None, name: str, start: bool, ephemeral: bool = False, ends: bool = True
) -> Operation:
    """Start creating an instance from the command's options; returns the operation, without ``ends`` at once."""
    args = context.args
    if image is not None:
        pull_if_private(context, image)
    config, devices = given(context)
    profiles = args.many("profile") if args.given("profile") else None
    return context.client.instances.create(
        image=image,
        name=name,
        start=start,
        config=config,
        devices=devices,
        profiles=[] if args.flag("no-profiles") else profiles,
        ephemeral=ephemeral or args.flag("ephemeral"),
        description=args.text("description"),
        isolation=isolation_of(context),
        runtime=args.text("runtime"),
        ends=ends,
    )


def isolation_of(context: Context) -> str:
    """As its options say it."""
    args = context.args
    if args.flag("vm") and args.text("isolation") not in ("", "vm"):
        raise UsageError("--vm means --isolation vm", hint="leave one of them out")
    return "vm" if args.flag("vm") else args.text("isolation")


def given(context: Context) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Configuration and devices of the command's options."""
    config = context.args.pairs("config")
    config.update({key: context.args.text(option) for option, key in _LIMITS.items() if context.args.given(option)})
    return config, _devices(context)


def _devices(context: Context) -> dict[str, dict[str, str]]:
    devices: dict[str, dict[str, str]] = {}
    if context.args.given("network"):
        devices["eth0"] = {"type": "nic", "network": context.args.text("network"), "name": "eth0"}
    if context.args.given("storage"):
        devices["root"] = {"type": "disk", "path": "/", "pool": context.args.text("storage")}
    for text in context.args.many("device"):
        name, _, rest = text.partition(",")
        if not name or not rest:
            raise UsageError(
                f"--device takes NAME,KEY=VALUE,..., not {text!r}", hint="for example eth1,type=nic,network=lab"
            )
        given = pairs(rest.split(","), "--device")
        if name not in devices:
            devices[name] = {} if "type" in given else _inherited(context, name)
        devices[name].update(given)
    return devices


def _inherited(context: Context, device: str) -> dict[str, str]:
    """The device as the profiles define it: ``-d root,size=10GiB`` changes one key of it."""
    if context.args.flag("no-profiles"):
        return {}
    names = context.args.many("profile") if context.args.given("profile") else ["default"]
    found: dict[str, str] = {}
    for name in names:
        found = dict(context.client.profiles.get(name)["devices"].get(device) or found)
    return found


def launch(context: Context) -> None:
    """Create an instance and start it, in one operation."""
    _make(context, context.args.text("IMAGE"), start=True)


def create(context: Context) -> None:
    """Create an instance without starting it."""
    empty = context.args.flag("empty")
    image = context.args.text("IMAGE")
    if not image and not empty:
        raise UsageError("IMAGE is missing", hint="name an image such as debian/12, or use --empty")
    _make(context, None if empty else image, start=context.args.flag("start"))


def _make(context: Context, image: str | None, *, start: bool) -> None:
    name = context.args.text("NAME")
    if image is None and not name:
        name, image = context.args.text("IMAGE"), None
    operation = begin(context, image=image, name=name, start=start)
    name = name or operation.resource("instances")
    doing, done = ("Launching", "is running") if start else ("Creating", "is created")
    context.follow(operation, f"{doing} {name}")
    if start and context.args.given("wait"):
        done = wait(context, name)
    if context.args.flag("print-name"):
        context.write(name)
    else:
        context.say(f"{name} {done}")


_PRINT_NAME = Option("--print-name", "Print nothing but the instance's name")
COMMANDS = (
    Command(
        "launch",
        "Create and start an instance",
        launch,
        IMAGE,
        Argument("NAME", "Its name (default: a generated one)", optional=True),
        *OPTIONS,
        *WAIT_OPTIONS,
        _PRINT_NAME,
        examples=(
            ("isola launch debian/12 web1", "a Debian 12 system named web1"),
            ("isola launch debian/12 web1 --wait ready", "the same, once all its services have started"),
            ("isola launch debian/12 web1 --memory 512MiB --cpu 1", "the same with limits"),
            ("isola launch docker.io/library/nginx:1.27 web", "an application of a registry"),
            ("isola launch debian/12 web1 --isolation microvm", "the same system behind another wall"),
            ("isola launch debian/12 vm1 --vm --memory 2GiB --cpu 2", "a virtual machine with a kernel of its own"),
            ("isola launch debian/12 vm1 --vm -d root,size=20GiB", "the same with a larger disk"),
            ("isola launch debian/12 -e -c user.purpose=test", "with a generated name, deleted when it stops"),
        ),
    ),
    Command(
        "create",
        "Create an instance without starting it",
        create,
        Argument(IMAGE.name, IMAGE.help, optional=True, complete="images"),
        Argument("NAME", "Its name (default: a generated one)", optional=True),
        *OPTIONS,
        Option("--start", "Also start it, as launch does"),
        Option("--empty", "Use no image: the root file system is empty"),
        _PRINT_NAME,
        aliases=("init",),
        examples=(
            ("isola create debian/12 web1", "create web1 without starting it"),
            ("isola create --empty scratch", "an instance with nothing in it"),
            ("isola create --empty desk1 --vm", "a virtual machine with an empty disk, to install a system on"),
        ),
    ),
)
