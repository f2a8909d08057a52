"""Over TCP, for the tasks of a Slurm step: the first one listens on its node, the others connect to it.

Slurm gives the tasks of a step no secret. A key made of what they share keeps strays and other jobs out; somebody on
the cluster's network who means harm can learn it, and gets digests and redacted sections, as over torch's own store,
which asks for no key at all. Nothing that is read here is executed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import itertools
import os
import re
import selectors
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envlock.fleet.preflight.transport import MESSAGE_LIMIT, TransportError, pauses

SHARED = (
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_LAUNCHER_PORT",
    "SLURM_SRUN_COMM_PORT",
)
"""Variables that are the same for all tasks of a step (srun(1), OUTPUT ENVIRONMENT VARIABLES)."""

PORTS = range(20_000, 30_000)
"""Below those that Linux gives to outgoing connections (net.ipv4.ip_local_port_range)."""

CANDIDATES = 4
"""Ports that are tried: another program may hold the first."""

STRANGERS = 64
"""Connections that may stand open beside those of the tasks before they have shown the key."""

PATIENCE = 5.0
"""Seconds for one step of the other end; another program may listen there and say nothing."""

_NONCE = 16
_ANSWER = 4 + _NONCE + hashlib.sha256().digest_size
_LENGTH = struct.Struct(">I")

_GONE = "the connection to rank 0 was lost: it or its node has ended"

_calls = itertools.count()
"""Every task makes the same calls in the same order."""


def of_environment(environ: Mapping[str, str], until: float) -> StepTransport:
    """Return the way to the other tasks of this step; raises TransportError.

    MASTER_ADDR, where it is set, is the first task's host; else that is the first node of the step.
    """
    rank, size = _number(environ, "SLURM_PROCID"), _number(environ, "SLURM_STEP_NUM_TASKS")
    shared = [environ.get(name, "") for name in SHARED]
    key = hashlib.sha256(
        "\0".join(["envlock", str(os.getuid()), str(next(_calls)), *shared]).encode()
    ).digest()
    first = PORTS[int.from_bytes(key[:4], "big") % (len(PORTS) - CANDIDATES)]
    ports = range(first, first + CANDIDATES)
    if rank == 0:
        return StepTransport(rank, size, key, server=_listen(ports))
    host = environ.get("MASTER_ADDR") or first_host(environ.get("SLURM_STEP_NODELIST", ""))
    if not host:
        raise TransportError(
            "the nodes of this Slurm step are not known: set MASTER_ADDR to the first one's name"
        )
    return StepTransport(rank, size, key, connection=_connect(_address(host), ports, key, rank, until))


def first_host(nodes: str) -> str:
    """Return the first name of a Slurm node list: ``node[07-12,20],login`` begins with node07."""
    found = re.match(r"([\w.-]+)(?:\[(\d+)[^\]]*\]([\w.-]*))?", nodes)
    return "" if found is None else "".join(part or "" for part in found.groups())


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise TransportError(f"{name} is {text!r}: a number is expected")
    return int(text)


def _address(node: str) -> str:
    """Return what reaches a node: its name, or where that is Slurm's alone the address that Slurm knows."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo(node, None)
        return node
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "--oneliner", "show", "node", node]
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        found = re.search(r"\bNodeAddr=(\S+)", told)
        if found:
            return found[1]
    return node


def _listen(ports: Iterable[int]) -> socket.socket:
    reason: OSError | None = None
    for port in ports:
        for family in (socket.AF_INET6, socket.AF_INET):
            try:
                dual = family == socket.AF_INET6
                return socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=dual)
            except (OSError, ValueError) as error:  # ValueError: no socket here hears both families
                reason = error if isinstance(error, OSError) else reason
    raise TransportError(f"no port of {_span(ports)} can be listened on: {reason}")


def _span(ports: Iterable[int]) -> str:
    *_, last = ports
    return f"{next(iter(ports))}-{last}"


def _connect(host: str, ports: Iterable[int], key: bytes, rank: int, until: float) -> socket.socket:
    """Return a connection to the first task, which may not listen yet; raises TransportError."""
    reason = "no time was left"
    for pause in pauses(until):
        for port in ports:
            limit = max(0.1, min(PATIENCE, until - time.monotonic()))
            try:
                connection = socket.create_connection((host, port), limit)
            except OSError as error:
                reason = str(error)
                continue
            try:
                _show_key(connection, key, rank)
            except OSError as error:  # another program, or the first task in an earlier call
                reason = str(error)
                connection.close()
            else:
                return connection
        time.sleep(pause)
    raise TransportError(f"rank 0 cannot be reached at {host}, ports {_span(ports)}: {reason}")


def _show_key(connection: socket.socket, key: bytes, rank: int) -> None:
    """Show the first task that this one has the key, and see that it has it too; raises OSError."""
    mine = os.urandom(_NONCE)
    theirs = _exactly(connection, _NONCE)
    connection.sendall(_LENGTH.pack(rank) + mine + _proof(key, theirs, rank))
    if not hmac.compare_digest(_exactly(connection, hashlib.sha256().digest_size), _proof(key, mine, 0)):
        raise OSError("another program listens there")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise OSError("the connection was closed")
        found += piece
    return bytes(found)


def _proof(key: bytes, nonce: bytes, rank: int) -> bytes:
    return hmac.digest(key, nonce + _LENGTH.pack(rank), "sha256")


@dataclass
class _Peer:
    """The other end of a connection: what it said so far, and at the first task which rank it has shown to be."""

    connection: socket.socket
    nonce: bytes = b""
    rank: int | None = None
    heard: bytearray = field(default_factory=bytearray)

    def messages(self) -> Iterator[bytes]:
        """Take the whole messages from what was heard; raises TransportError for one that is too long."""
        while len(self.heard) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self.heard)
            if size > MESSAGE_LIMIT:
                raise TransportError(f"a message of {size} bytes came, which is more than a stack takes")
            if len(self.heard) < _LENGTH.size + size:
                return
            yield bytes(self.heard[_LENGTH.size : _LENGTH.size + size])
            del self.heard[: _LENGTH.size + size]


class StepTransport:
    """Messages with their length before them; ``server`` listens at the first task, others have a connection to it."""

    def __init__(
        self,
        rank: int,
        size: int,
        key: bytes,
        *,
        server: socket.socket | None = None,
        connection: socket.socket | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self._key = key
        self._server = server
        self._peers: dict[int, _Peer] = {}
        self._came: dict[int, list[bytes]] = {other: [] for other in range(size)}
        self._streams = selectors.DefaultSelector()
        self._strangers = 0
        self._lost: set[int] = set()
        """Ranks whose connection has ended."""
        if server is not None:
            server.setblocking(False)
            self._streams.register(server, selectors.EVENT_READ)
        if connection is not None:
            connection.setblocking(False)
            self._peers[0] = _Peer(connection, rank=0)
            self._streams.register(connection, selectors.EVENT_READ, self._peers[0])

    def send(self, message: bytes) -> None:  # noqa: D102 - see Transport
        if 0 in self._lost:
            raise TransportError(_GONE)
        self._write(self._peers[0], message)

    def collect(self, ranks: Iterable[int], until: float) -> dict[int, bytes]:  # noqa: D102
        waiting = set(ranks)
        found = {}
        while True:
            for rank in [rank for rank in waiting if self._came[rank]]:
                found[rank] = self._came[rank].pop(0)
                waiting.remove(rank)
            left = until - time.monotonic()
            if 0 in self._lost:
                raise TransportError(_GONE)
            if waiting <= self._lost or left <= 0:
                return found
            for ready, _ in self._streams.select(left):
                if ready.data is None:
                    self._accept()
                else:
                    self._read(ready.data)

    def tell(self, message: bytes) -> None:  # noqa: D102
        for peer in list(self._peers.values()):
            with contextlib.suppress(TransportError):  # who has ended is missed where its answer is awaited
                self._write(peer, message)

    def hear(self, until: float) -> bytes | None:  # noqa: D102
        return self.collect([0], until).get(0)

    def part(self, until: float) -> None:  # noqa: D102
        with contextlib.suppress(TransportError):
            if self.rank:
                self.send(b"")
                self.hear(until)
            else:
                self.collect(list(self._peers), until)
                self.tell(b"")
        self.close()

    def close(self) -> None:
        """Close all connections; the other ends find them lost."""
        for each in list(self._streams.get_map().values()):
            self._streams.unregister(each.fileobj)
            each.fileobj.close()  # type: ignore[union-attr]
        self._streams.close()

    def _write(self, peer: _Peer, message: bytes) -> None:
        try:
            peer.connection.settimeout(PATIENCE)
            peer.connection.sendall(_LENGTH.pack(len(message)) + message)
        except OSError as error:
            self._drop(peer)
            raise TransportError(f"rank {peer.rank} cannot be written to: {error}") from None
        peer.connection.setblocking(False)

    def _accept(self) -> None:
        assert self._server is not None
        try:
            connection, _ = self._server.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise TransportError(
                    f"rank 0 cannot hear {self.size} ranks: {error.strerror} (ulimit -n)"
                ) from None
            return  # who called has gone already
        if self._strangers >= STRANGERS + self.size:
            connection.close()
            return
        self._strangers += 1
        peer = _Peer(connection, nonce=os.urandom(_NONCE))
        connection.setblocking(False)
        self._streams.register(connection, selectors.EVENT_READ, peer)
        with contextlib.suppress(OSError):
            connection.send(peer.nonce)

    def _read(self, peer: _Peer) -> None:
        try:
            piece = peer.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        peer.heard += piece
        if peer.rank is None:
            self._recognise(peer)
        if peer.rank is not None:
            self._came[peer.rank] += peer.messages()
        if not piece:
            self._drop(peer)

    def _recognise(self, peer: _Peer) -> None:
        """See whether a connection has shown the key, and of which rank; one that shows another is closed."""
        if len(peer.heard) < _ANSWER:
            return
        (rank,) = _LENGTH.unpack_from(peer.heard)
        theirs, proof = bytes(peer.heard[4 : 4 + _NONCE]), bytes(peer.heard[4 + _NONCE : _ANSWER])
        known = hmac.compare_digest(proof, _proof(self._key, peer.nonce, rank))
        if not known or not 0 < rank < self.size or rank in self._peers:
            self._drop(peer)
            return
        self._strangers -= 1
        peer.rank = rank
        del peer.heard[:_ANSWER]
        self._peers[rank] = peer
        self._lost.discard(rank)
        with contextlib.suppress(OSError):
            peer.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.connection.send(_proof(self._key, theirs, 0))

    def _drop(self, peer: _Peer) -> None:
        if peer.connection.fileno() < 0:
            return  # dropped already
        self._streams.unregister(peer.connection)
        peer.connection.close()
        if peer.rank is None:
            self._strangers -= 1
        else:
            del self._peers[peer.rank]
            self._lost.add(peer.rank)
