"""Nodes of a Ray cluster: one task pinned to each live one, which runs the probe in a child of the worker."""

from __future__ import annotations

import collections
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from envlock.errors import EnvlockError
from envlock.fleet.engines import OUTPUT_LIMIT, Answer, Asked, Request

_GRACE = 10.0
"""Seconds beyond a node's time limit in which its worker may tell that it ran out of it."""

_LEFT = (1, 3, 4)
"""Ends that were meant: EXPECTED_TERMINATION, AUTOSCALER_DRAIN_PREEMPTED and _IDLE (Ray, src/ray/protobuf/common.proto)."""


def ask(request: Request, asked: Asked, address: str) -> Iterator[Answer]:
    """Ask every node that the cluster calls alive; one that it lost is an answer with Ray's reason.

    The environment meant is the workers' own, unless --python or --prefix name another. Raises EnvlockError where the
    cluster cannot be reached.
    """
    ray = _connect(address)
    try:
        nodes = named(ray.nodes())
        left = asked(list(nodes))
        yield from (Answer(name, failed=_death(nodes[name])) for name in left if not nodes[name]["Alive"])
        identities = {name: nodes[name]["NodeID"] for name in left if nodes[name]["Alive"]}
        yield from _answers(ray, request, identities)
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdigit() and "/" not in host:
            # Ray itself tries for minutes, and says so on standard error.
            socket.create_connection((host, int(port)), timeout=10).close()
        import ray

        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ImportError:
        raise EnvlockError(
            "--ray needs Ray beside envlock, in the cluster's version: pip install ray"
        ) from None
    except (ConnectionError, RuntimeError, ValueError, OverflowError, OSError) as error:
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise EnvlockError(f"cannot reach Ray at {address}: {reason}") from None
    return ray


def named(nodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name the nodes that should be there: the host name, with the id's first digits where it is not the only one.

    Ray remembers nodes that ended, also those that somebody stopped or the autoscaler took, and those that came back
    under another id: none of these is missed.
    """
    alive = [node for node in nodes if node["Alive"]]
    back = {_machine(node) for node in alive}
    lost = {
        _machine(node): node  # of one that died more than once the last
        for node in nodes
        if not node["Alive"] and node.get("DeathReason") not in _LEFT and _machine(node) not in back
    }
    told = [*alive, *lost.values()]
    hosts = collections.Counter(node["NodeManagerHostname"] for node in told)
    return {_name(node, unique=hosts[node["NodeManagerHostname"]] == 1): node for node in told}


def _machine(node: dict[str, Any]) -> tuple[str, str]:
    return node["NodeManagerHostname"], node.get("NodeName", "")


def _name(node: dict[str, Any], *, unique: bool) -> str:
    host: str = node["NodeManagerHostname"]
    return host if unique else f"{host}-{node['NodeID'][:8]}"


def _death(node: dict[str, Any]) -> str:
    return f"dead: {node.get('DeathReasonMessage') or 'Ray does not say why'}"


def _answers(ray: Any, request: Request, identities: dict[str, str]) -> Iterator[Answer]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_task())
    script = ray.put(request.script)
    left = collections.deque(identities)
    running: dict[Any, tuple[str, float]] = {}
    while left or running:
        while left and len(running) < request.parallel:
            node = left.popleft()
            pinned = task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(identities[node], soft=False)
            )
            reference = pinned.remote(script, list(request.arguments), request.timeout, OUTPUT_LIMIT)
            running[reference] = (node, time.monotonic() + request.timeout + _GRACE)
        done, _ = ray.wait(list(running), timeout=1.0)
        for reference in done:
            node, _ = running.pop(reference)
            yield _answer(ray, node, reference)
        now = time.monotonic()
        for reference, (node, end) in list(running.items()):
            if now > end:
                del running[reference]
                ray.cancel(reference, force=True)
                yield Answer(node, failed=f"no answer within {request.timeout:g} s")


def _answer(ray: Any, node: str, reference: Any) -> Answer:
    try:
        output, failed = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Answer(node, failed=_first_line(error))
    if failed is None and isinstance(output, bytes) and len(output) <= OUTPUT_LIMIT:
        return Answer(node, output)
    return Answer(node, failed=str(failed or "answered with something else than a probe's output"))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _task() -> Callable[..., tuple[bytes, str | None]]:
    """Return the task. It is made here, in a function, so that Ray sends its code and not the name of a module
    that its workers do not have."""

    def probe(script: bytes, arguments: list[str], timeout: float, limit: int) -> tuple[bytes, str | None]:
        import subprocess
        import sys
        import tempfile
        import threading

        # As the worker was started: for a task without GPUs Ray then sets CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS.
        with open("/proc/self/environ", "rb") as file:
            environ = dict(line.split(b"=", 1) for line in file.read().split(b"\0") if b"=" in line)
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
            stdin.write(script)
            stdin.seek(0)
            command = [sys.executable, "-", *(arguments or ["--python", sys.executable])]
            with subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=environ
            ) as child:
                late = threading.Timer(timeout, child.kill)
                late.start()
                output = child.stdout.read(limit + 1)  # type: ignore[union-attr]
                if len(output) > limit:
                    child.kill()
                child.wait()
            in_time = late.is_alive()
            late.cancel()
            if not in_time:
                return b"", f"no answer within {timeout:g} s"
            if len(output) > limit:
                return b"", f"printed more than {limit // 2**20} MiB"
            if child.returncode:
                stderr.seek(0)
                lines = stderr.read(65536).decode("utf-8", "replace").strip().splitlines() or ["no word"]
                return b"", lines[-1].replace("envlock: ", "", 1)
        return output, None

    return probe
