"""What the daemon and the forwarder of published ports write to each other: lines with tabs, in a packet socket.

A request is any number of ``yield KEY``, ``drop KEY``, ``take`` and ``listen KEY PROTOCOL ADDRESS PORT ADDRESS PORT``,
then ``apply``; it is carried out as a whole or not at all. The answer is ``ok LISTENERS CONNECTIONS``, or
``error TEXT``. The answer to ``list`` has a ``listen`` line for each port before that.
"""

from __future__ import annotations

VERSION = "1"
MOST_BYTES = 8 << 20
"""Of one request."""
Endpoint = tuple[str, str, int]
"""Protocol (``tcp`` or ``udp``), address, port."""
Address = tuple[str, int]


class Request:
    """Changes that are made at once."""

    __slots__ = ("drop", "listen", "listing", "take", "yields")

    def __init__(self) -> None:
        self.yields: set[str] = set()
        """Owners whose ports are given up, unless ``listen`` has them; their connections continue."""
        self.drop: set[str] = set()
        """Owners whose connections end, too."""
        self.take = False
        """Ports may be taken from any other owner."""
        self.listen: list[tuple[str, Endpoint, Address]] = []
        """Owner, where it listens, where it connects to."""
        self.listing = False
        """Nothing is changed."""

    def text(self) -> str:
        """All lines."""
        lines = [*(f"yield\t{key}" for key in sorted(self.yields)), *(f"drop\t{key}" for key in sorted(self.drop))]
        lines += ["take"] if self.take else []
        lines += [listen_line(*each) for each in self.listen]
        return "\n".join([*lines, "list" if self.listing else "apply", ""])


def listen_line(key: str, endpoint: Endpoint, target: Address) -> str:
    """One port."""
    return "\t".join(("listen", key, *map(str, endpoint), *map(str, target)))


def read_listen(line: str) -> tuple[str, Endpoint, Address]:
    """The port of a ``listen`` line. Raises ValueError."""
    keyword, key, protocol, host, port, address, number = line.split("\t")
    if keyword != "listen" or protocol not in ("tcp", "udp"):
        raise ValueError(line)
    return key, (protocol, host, int(port)), (address, int(number))


def read_request(text: str) -> Request:
    """Raises ValueError."""
    found = Request()
    *lines, last = text.rstrip("\n").split("\n")
    if last not in ("apply", "list"):
        raise ValueError(last)
    found.listing = last == "list"
    for line in lines:
        keyword, _, rest = line.partition("\t")
        if keyword == "yield":
            found.yields.add(rest)
        elif keyword == "drop":
            found.drop.add(rest)
        elif line == "take":
            found.take = True
        else:
            found.listen.append(read_listen(line))
    return found
