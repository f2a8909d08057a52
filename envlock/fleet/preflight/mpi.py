"""Over MPI: point-to-point messages on MPI_COMM_WORLD under a tag of their own, none of which is waited for blindly.

A collective, or a communicator of its own, would hang where one rank never calls.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from envlock.fleet.preflight.transport import MESSAGE_LIMIT, TransportError, pauses

TAG = 29_171
"""Below 32,767, which is the least that every MPI allows (MPI 4.1, 9.1.2); a program's own tags are small."""

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""How launchers say how many processes they started: Open MPI, MPICH and Intel MPI, MVAPICH2."""


def is_initialised() -> bool:
    """Tell whether this program uses mpi4py with more than one rank."""
    module = sys.modules.get("mpi4py.MPI")
    if module is None or not module.Is_initialized() or module.Is_finalized():
        return False
    return bool(module.COMM_WORLD.Get_size() > 1)


def is_installed() -> bool:
    """Tell whether mpi4py can be imported."""
    import importlib.util

    return importlib.util.find_spec("mpi4py") is not None


def launched_processes(environ: Mapping[str, str]) -> int:
    """Return how many processes an MPI launcher has started; 0 where there was none."""
    return next((int(environ[name]) for name in SIZES if environ.get(name, "").isdecimal()), 0)


def world() -> MpiTransport | None:
    """Return all processes that were started together; None for a process on its own. Raises TransportError."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI library
        raise TransportError(f"mpi4py cannot be used: {str(error).partition(chr(10))[0]}") from None
    return MpiTransport(MPI) if MPI.COMM_WORLD.Get_size() > 1 else None


class MpiTransport:
    """Messages as plain bytes: what mpi4py would pickle could run code where it is read."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._world = mpi.COMM_WORLD
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()
        self._under_way: list[tuple[Any, bytes]] = []
        """Requests with their buffers, which must live until they are complete."""

    def send(self, message: bytes) -> None:  # noqa: D102 - see Transport
        self._send(0, message)

    def collect(self, ranks: Iterable[int], until: float) -> dict[int, bytes]:  # noqa: D102
        waiting, found = set(ranks), {}
        for pause in pauses(until):
            for rank in sorted(waiting):
                message = self._receive(rank)
                if message is not None:
                    found[rank] = message
            waiting -= found.keys()
            if not waiting:
                break
            time.sleep(pause)
        return found

    def tell(self, message: bytes) -> None:  # noqa: D102
        for rank in range(1, self.size):
            self._send(rank, message)

    def hear(self, until: float) -> bytes | None:  # noqa: D102
        return self.collect([0], until).get(0)

    def part(self, until: float) -> None:  # noqa: D102
        try:
            if self.rank:
                self.send(b"")
                self.hear(until)
            else:
                self.collect(range(1, self.size), until)
                self.tell(b"")
            for pause in pauses(until):
                self._under_way = [each for each in self._under_way if not each[0].Test()]
                if not self._under_way:
                    return
                time.sleep(pause)
        except (TransportError, self._mpi.Exception):
            pass  # the other side has gone already: it has what it needs

    def _send(self, rank: int, message: bytes) -> None:
        request = self._world.Isend([message, self._mpi.BYTE], dest=rank, tag=TAG)
        self._under_way.append((request, message))

    def _receive(self, rank: int) -> bytes | None:
        status = self._mpi.Status()
        if not self._world.Iprobe(source=rank, tag=TAG, status=status):
            return None
        size = status.Get_count(self._mpi.BYTE)
        if size > MESSAGE_LIMIT:
            raise TransportError(f"rank {rank} sent {size} bytes, which is more than a stack takes")
        message = bytearray(size)
        self._world.Recv([message, self._mpi.BYTE], source=rank, tag=TAG)
        return bytes(message)
