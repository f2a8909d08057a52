"""How messages get from all ranks to the first one and back: what every transport can do, and which one there is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from envlock.errors import EnvlockError

MESSAGE_LIMIT = 4 * 1024 * 1024
"""Bytes of one message at most; the packages of a large environment take a tenth of it."""


class TransportError(EnvlockError):
    """The ranks cannot reach each other; the text says why and what to do."""


class Transport(Protocol):
    """A star with rank 0 in its middle. Moments are those of ``time.monotonic``; nothing waits beyond them."""

    rank: int
    size: int

    def send(self, message: bytes) -> None:
        """Send to rank 0 (from any other rank)."""

    def collect(self, ranks: Iterable[int], until: float) -> dict[int, bytes]:
        """Return the next message of each of these ranks (at rank 0); of those only that came in time."""

    def tell(self, message: bytes) -> None:
        """Send to every rank (from rank 0)."""

    def hear(self, until: float) -> bytes | None:
        """Return the next message of rank 0 (at any other rank), or None if none came in time."""

    def part(self, until: float) -> None:
        """Wait until all ranks are done, so that none takes the connection away from another; never raises."""


def find_transport(until: float, environ: Mapping[str, str] = os.environ) -> Transport | None:
    """Return the way to the other ranks of this job; None for a process on its own. Raises TransportError.

    What the program has set up comes first (a process group of torch, mpi4py), then what the launcher says:
    torchrun's variables, an MPI launcher, a Slurm step.
    """
    from envlock.fleet.preflight import mpi, slurm_step, torch_store

    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        if distributed.get_world_size() == 1:
            return None
        store = torch_store.of_process_group()
        if store is not None:
            return store
    if mpi.is_initialised():
        return mpi.world()
    if environ.keys() >= torch_store.ENVIRONMENT:
        return torch_store.of_environment(environ, until)
    processes = mpi.launched_processes(environ)
    # Slurm sets PMI's variables as well, also where mpi4py's MPI cannot use them and finds itself alone.
    if processes > 1 and mpi.is_installed() and (world := mpi.world()) is not None:
        return world
    if _number(environ, "SLURM_STEP_NUM_TASKS") > 1:
        return slurm_step.of_environment(environ, until)
    if processes > 1:
        raise TransportError(
            f"{processes} processes were started by MPI, but mpi4py is not installed: install it, or call "
            "envlock.preflight() after torch.distributed.init_process_group()"
        )
    if _number(environ, "WORLD_SIZE") > 1:
        missing = ", ".join(sorted(torch_store.ENVIRONMENT - environ.keys()))
        raise TransportError(
            f"WORLD_SIZE is {environ['WORLD_SIZE']}, but the other ranks cannot be found: {missing} not set; call "
            "envlock.preflight() after torch.distributed.init_process_group()"
        )
    return None


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def pauses(until: float) -> Iterator[float]:
    """Yield how long to sleep before the next look until the moment has come, a twentieth of the wait so far.

    So a message is found soon after it came, and a thousand ranks that wait for long ask seldom.
    """
    begin = time.monotonic()
    yield 0.0005
    while (now := time.monotonic()) < until:
        yield min(max((now - begin) / 20, 0.0005), 0.1, until - now)
