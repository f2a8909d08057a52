"""The live machine: its file system, its environment, and questions put to it in child processes."""

import contextlib
import json
import os
import pkgutil
import select
import subprocess
import sys
import time
from typing import BinaryIO, Dict, List, Mapping, Optional, Sequence

from envlock.probe.root import READ_LIMIT, Entry, Stat, UnobservableError
from envlock.roots.folder import open_regular, read_whole, sound, to_stat


class LiveRoot:
    """The root protocol over this machine; ``environ`` stands in for the process's own when given."""

    kind = "live"

    def __init__(self, environ: Optional[Mapping[str, str]] = None) -> None:
        self.environ: Mapping[str, str] = dict(os.environ if environ is None else environ)

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:  # noqa: D102 - see Root
        with open_regular(path) as file:
            return read_whole(file, path, limit)

    def open(self, path: str) -> BinaryIO:  # noqa: D102 - see Root
        return open_regular(path)

    def scan(self, path: str) -> List[Entry]:  # noqa: D102 - see Root
        with os.scandir(sound(path)) as found:
            return sorted(Entry(e.name, _safe(e.is_dir), _safe(e.is_file), e.is_symlink()) for e in found)

    def stat(self, path: str) -> Stat:  # noqa: D102 - see Root
        return to_stat(os.stat(sound(path)))

    def readlink(self, path: str) -> str:  # noqa: D102 - see Root
        return os.readlink(sound(path))

    def realpath(self, path: str) -> str:  # noqa: D102 - see Root
        try:
            return os.path.realpath(sound(path))
        except OSError:
            return path

    def exists(self, path: str) -> bool:  # noqa: D102 - see Root
        return os.path.exists(path)

    def is_dir(self, path: str) -> bool:  # noqa: D102 - see Root
        return os.path.isdir(path)

    def is_file(self, path: str) -> bool:  # noqa: D102 - see Root
        return os.path.isfile(path)

    def filesystem_size(self, path: str) -> int:  # noqa: D102 - see Root
        try:
            answer = os.statvfs(path)
        except OSError as error:
            raise UnobservableError(f"{path}: {error.strerror or error}") from None
        return answer.f_blocks * answer.f_frsize

    def run(self, command: Sequence[str], timeout: float = 5.0, limit: int = 1024 * 1024) -> str:  # noqa: D102 - see Root
        return _run(command, self.environ, timeout, limit)

    def ask(self, question: str, arguments: Sequence[str] = (), timeout: float = 10.0) -> Dict[str, object]:  # noqa: D102
        source = pkgutil.get_data("envlock.probe", f"ask/{question}.py")
        if source is None:
            raise ValueError(f"no question named {question}")
        # The source goes through -c so that the same works from inside a zip; -I -S keeps the target's
        # site-packages and PYTHONPATH out of the child.
        command = [sys.executable, "-I", "-S", "-c", source.decode("utf-8"), *arguments]
        output = _run(command, self.environ, timeout, 1024 * 1024)
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            raise UnobservableError(f"the {question} child answered with something else than JSON") from None
        if not isinstance(answer, dict):
            raise UnobservableError(f"the {question} child answered with something else than an object")
        if "unobservable" in answer:
            raise UnobservableError(str(answer["unobservable"]))
        return answer


def _safe(question: object) -> bool:
    try:
        return bool(question())  # type: ignore[operator]
    except OSError:
        return False


def _run(command: Sequence[str], environ: Mapping[str, str], timeout: float, limit: int) -> str:
    name = os.path.basename(command[0])
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a variable that no system takes
        reason = getattr(error, "strerror", None) or error
        raise UnobservableError(f"{name} cannot be run: {reason}") from None
    try:
        output = _output(process, name, time.monotonic() + timeout, timeout, limit)
    except BaseException:
        _kill(process)
        raise
    if process.returncode < 0:
        raise UnobservableError(f"{name} was ended by signal {-process.returncode}")
    if process.returncode:
        raise UnobservableError(f"{name} failed with exit code {process.returncode}")
    return output.decode("utf-8", "replace")


def _output(process: "subprocess.Popen[bytes]", name: str, end: float, timeout: float, limit: int) -> bytes:
    """Return what a child prints until it closes stdout and ends; never more than limit bytes are held."""
    late = UnobservableError(f"{name} did not answer within {timeout:g} s")
    assert process.stdout is not None
    pieces: List[bytes] = []
    held = 0
    with process.stdout as stdout:
        waiting = select.poll()
        waiting.register(stdout, select.POLLIN)
        while True:
            left = end - time.monotonic()
            if left <= 0 or not waiting.poll(left * 1000 + 1):
                raise late
            piece = os.read(stdout.fileno(), 65536)
            if not piece:
                break
            pieces.append(piece)
            held += len(piece)
            if held > limit:
                raise UnobservableError(f"{name} printed more than {limit} bytes")
    try:
        process.wait(max(0.05, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise late from None
    return b"".join(pieces)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a child and what it started; a process stuck in a driver call may stay behind unreaped."""
    import signal

    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    # No longer than this: where it is stuck in the kernel, waiting would hang envlock with it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
