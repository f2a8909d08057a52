"""Over torch's key-value store, with which the ranks of a process group find each other.

Every process group but an MPI one has such a store before its first collective: gloo and nccl do not have to
connect first, which is what fails where NCCL differs, and a message that never comes does no harm to the group.
torchrun's agent has such a store before any group.
"""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from envlock.fleet.preflight.transport import TransportError, pauses

ENVIRONMENT = frozenset({"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
"""What torch's env:// rendezvous reads (torch.distributed, "Environment variable initialization")."""

_calls = itertools.count()
"""Every rank makes the same calls in the same order, as with a collective."""

_kept: list[Any] = []
"""Stores that rank 0 serves on MASTER_PORT. The script's own group joins the same server (torch's multi_tenant);
closed and opened again, ranks that are faster would be left on the closed one."""


def of_process_group() -> StoreTransport | None:
    """Return the store of torch's default process group; None where it has none (the backend is MPI)."""
    from torch import distributed
    from torch.distributed.distributed_c10d import _get_default_store

    store = _get_default_store()
    return store and StoreTransport(store, distributed.get_rank(), distributed.get_world_size())


def of_environment(environ: Mapping[str, str], until: float) -> StoreTransport | None:
    """Return the store at MASTER_ADDR: torchrun's agent serves it, or else rank 0 does. Raises TransportError."""
    rank, size, port = (_number(environ, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if size == 1:
        return None
    agent = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = _connect(environ["MASTER_ADDR"], port, serve=rank == 0 and not agent, until=until)
    # An agent may keep its store, and with it the words of an attempt that ended, over a restart.
    return StoreTransport(store, rank, size, f"/{environ.get('TORCHELASTIC_RESTART_COUNT', '0')}")


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise TransportError(f"{name} is {text!r}: a number is expected")
    return int(text)


def _connect(host: str, port: int, *, serve: bool, until: float) -> Any:
    try:
        from torch.distributed import TCPStore
    except ImportError as error:
        raise TransportError(
            f"the ranks are told apart by their environment, but compare over torch, which cannot be imported: {error}"
        ) from None
    limit = datetime.timedelta(seconds=max(0.1, until - time.monotonic()))
    try:
        store = TCPStore(host, port, None, serve, limit, wait_for_workers=False, multi_tenant=True)
    except (RuntimeError, ValueError) as error:
        what = "cannot be served here" if serve else "cannot be reached"
        raise TransportError(f"rank 0's store at {host}:{port} {what}: {_first_line(error)}") from None
    if serve:
        _kept.append(store)
    return store


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


class StoreTransport:
    """A message is a key: ``up/<rank>/<n>`` to rank 0, ``down/<n>`` from it."""

    def __init__(self, store: Any, rank: int, size: int, attempt: str = "") -> None:
        from torch.distributed import PrefixStore

        self.rank, self.size = rank, size
        self._store = PrefixStore(f"envlock-preflight{attempt}/{next(_calls)}", store)
        self._sent = 0
        self._collected = dict.fromkeys(range(size), 0)

    def send(self, message: bytes) -> None:  # noqa: D102 - see Transport
        self._set(f"up/{self.rank}/{self._sent}", message)
        self._sent += 1

    def collect(self, ranks: Iterable[int], until: float) -> dict[int, bytes]:  # noqa: D102
        keys = {rank: f"up/{rank}/{self._collected[rank]}" for rank in ranks}
        if not self._wait(list(keys.values()), until):
            keys = {rank: key for rank, key in keys.items() if self._there([key])}
        for rank in keys:
            self._collected[rank] += 1
        return {rank: self._get(key) for rank, key in keys.items()}

    def tell(self, message: bytes) -> None:  # noqa: D102
        self._set(f"down/{self._sent}", message)
        self._sent += 1

    def hear(self, until: float) -> bytes | None:  # noqa: D102
        key = f"down/{self._collected[0]}"
        if not self._wait([key], until):
            return None
        self._collected[0] += 1
        return self._get(key)

    def part(self, until: float) -> None:  # noqa: D102
        try:
            if self.rank:
                self._set(f"left/{self.rank}", b"")
                self._wait(["left"], until)
            else:
                self._wait([f"left/{rank}" for rank in range(1, self.size)], until)
                self._set("left", b"")
        except TransportError:
            pass  # the other side has gone already: it has what it needs

    def _wait(self, keys: list[str], until: float) -> bool:
        """Wait for keys; tell whether all are there.

        The store's own wait holds the whole connection, hears no Ctrl-C, and writes warnings where it runs out of time.
        """
        for pause in pauses(until):
            if self._there(keys):
                return True
            time.sleep(pause)
        return self._there(keys)

    def _there(self, keys: list[str]) -> bool:
        return not keys or bool(self._call("check", keys))

    def _get(self, key: str) -> bytes:
        found: bytes = self._call("get", key)
        return found

    def _set(self, key: str, value: bytes) -> None:
        self._call("set", key, value)

    def _call(self, what: str, *arguments: Any) -> Any:
        try:
            return getattr(self._store, what)(*arguments)
        except RuntimeError as error:
            raise TransportError(
                f"the connection to the job's store was lost, so rank 0 or its node has ended: {_first_line(error)}"
            ) from None
