"""What reaches the nodes of a fleet, one engine a file.

An engine is a function ``ask(request, asked, ...)`` that tells ``asked`` the names of all nodes once, gets back
those that are still to be captured, and yields one Answer a node as they come. What a node says is hostile: an
engine bounds its size and time and never reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

OUTPUT_LIMIT = 16 * 1024 * 1024
"""Bytes that a node may print at most; the probe prints under 2 MiB for 5,000 packages."""

Asked = Callable[[Sequence[str]], Sequence[str]]
"""Takes the names of all nodes; returns those that are still to be captured."""


@dataclass(frozen=True)
class Request:
    """What every node is asked, and how patiently."""

    script: bytes
    """The probe, as ``python3 -`` reads it."""

    arguments: tuple[str, ...] = ()
    """The probe's own: ``--prefix DIR``, ``--python EXE``."""

    timeout: float = 60.0
    """Seconds for one node, from when it is asked."""

    parallel: int = 32
    """Nodes that are asked at the same time at most."""


@dataclass(frozen=True)
class Answer:
    """One node: what it printed, or why there is nothing."""

    node: str
    output: bytes = b""
    failed: str | None = None
