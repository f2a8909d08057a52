"""Asks many nodes through one local process each (ssh, srun): bounded in number, size and time."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

from envlock.fleet.engines import OUTPUT_LIMIT, Answer, Request

_ERRORS_KEPT = 16 * 1024
"""Bytes of a process's standard error that are kept: the last, where the reason stands."""

_TICK = 0.25
"""Seconds after which a silent process is looked at again."""


def ask_each(request: Request, nodes: Sequence[str], command: Callable[[str], list[str]]) -> Iterator[Answer]:
    """Run each node's command with the probe on its standard input; yield the answers as they come.

    Where the caller stops early, the processes that still run are ended.
    """
    stop = threading.Event()
    left = iter(nodes)
    with (
        tempfile.NamedTemporaryFile(prefix="envlock-") as script,
        ThreadPoolExecutor(max(1, min(request.parallel, len(nodes)))) as pool,
    ):
        script.write(request.script)
        script.flush()

        def start(node: str) -> Future[Answer]:
            return pool.submit(_ask, node, command(node), script.name, request.timeout, stop)

        running = {start(node) for node in islice(left, request.parallel)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    # One in for one out: answers that nobody took yet are memory.
                    running |= {start(node) for node in islice(left, 1)}
                    yield future.result()
        finally:
            stop.set()


def _ask(node: str, command: list[str], script: str, timeout: float, stop: threading.Event) -> Answer:
    if stop.is_set():
        return Answer(node, failed="not asked any more")
    try:
        with open(script, "rb") as stdin:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # no terminal to ask for a password on
            )
    except OSError as error:
        return Answer(node, failed=f"{command[0]} cannot be run: {error.strerror or error}")
    with process:
        try:
            return _collect(node, process, timeout, stop)
        finally:
            _end(process)


def _collect(node: str, process: subprocess.Popen[bytes], timeout: float, stop: threading.Event) -> Answer:
    """Read what a process prints until it ends."""
    end = time.monotonic() + timeout
    assert process.stdout is not None and process.stderr is not None
    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as streams:
        streams.register(process.stdout, selectors.EVENT_READ, output)
        streams.register(process.stderr, selectors.EVENT_READ, errors)
        while streams.get_map():
            left = end - time.monotonic()
            if left <= 0:
                return Answer(node, failed=f"no answer within {timeout:g} s")
            if stop.is_set():
                return Answer(node, failed="not asked any more")
            ended = process.poll() is not None  # before the look at the streams: what it wrote last is seen
            ready = streams.select(min(left, _TICK))
            for key, _ in ready:
                piece = os.read(key.fd, 65536)
                key.data.extend(piece)
                if not piece:
                    streams.unregister(key.fileobj)
            del errors[:-_ERRORS_KEPT]
            if len(output) > OUTPUT_LIMIT:
                return Answer(node, failed=f"printed more than {OUTPUT_LIMIT // 2**20} MiB")
            # A shared ssh connection goes on in the background and may hold a stream open.
            if ended and not ready:
                break
    try:
        code = process.wait(max(_TICK, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return Answer(node, failed=f"no answer within {timeout:g} s")
    if code:
        return Answer(node, failed=reason(code, errors.decode("utf-8", "replace")))
    return Answer(node, bytes(output))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs; ssh and srun are given the time to tell the other side."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)


def reason(code: int, errors: str) -> str:
    """Return the line of a failed process's standard error that says why; else how it ended.

    The probe's own word comes first, then the last line that calls itself an error, then the last line.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    own = [line.removeprefix("envlock: ") for line in lines if line.startswith("envlock: ")]
    called = [line for line in lines if re.search(r"error", line, re.IGNORECASE)]
    for found in (own, called, lines):
        if found:
            return found[-1]
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code} and no word"
