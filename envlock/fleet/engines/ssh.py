"""Nodes over SSH: the system's OpenSSH with the user's own configuration, the probe piped to ``python3 -``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from envlock.errors import EnvlockError
from envlock.fleet.engines import Answer, Asked, Request
from envlock.fleet.engines.processes import ask_each


def ask(request: Request, asked: Asked, hosts: str) -> Iterator[Answer]:
    """Ask the hosts of a list (see ``read_hosts``); each is a destination as ssh takes it."""
    destinations = read_hosts(hosts)
    remote = shlex.join(["python3", "-", *request.arguments])

    def command(node: str) -> list[str]:
        # BatchMode: a host that asks for a password is a failed node, not a stopped run.
        return ["ssh", "-T", "-o", "BatchMode=yes", "--", destinations[node], remote]

    yield from ask_each(request, asked(list(destinations)), command)


def read_hosts(text: str) -> dict[str, str]:
    """Return the destinations of a list by node name: one a line, ``#`` begins a comment; raises EnvlockError.

    ``user@node01`` and ``ssh://user@node01:2222`` are nodes ``node01`` and ``node01:2222``: who logs in is
    nobody else's concern.
    """
    hosts: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        destination = line.partition("#")[0].strip()
        if not destination:
            continue
        if re.search(r"\s", destination) or destination.startswith("-") or not destination.isprintable():
            raise EnvlockError(f"the list of hosts, line {number}: not one host: {destination[:80]!r}")
        node = destination.removeprefix("ssh://").rpartition("@")[2].rstrip("/")
        if hosts.setdefault(node, destination) != destination:
            raise EnvlockError(
                f"the list of hosts, line {number}: {node} stands there twice, with another login"
            )
    if not hosts:
        raise EnvlockError("the list of hosts is empty")
    return hosts
