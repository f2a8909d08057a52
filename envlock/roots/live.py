"""The live machine: its file system, its environment, and questions put to it in child processes."""

import contextlib
import errno
import os
import sys
from stat import S_ISLNK
from typing import TYPE_CHECKING, BinaryIO, Dict, List, Mapping, Optional, Sequence

from envlock.probe.root import READ_LIMIT, Entry, Stat, UnobservableError
from envlock.roots.folder import open_regular, read_regular, sound, to_stat

if TYPE_CHECKING:
    import subprocess


class LiveRoot:
    """The root protocol over this machine; ``environ`` stands in for the process's own when given.

    One root is one look at the machine: what a folder held and where a path led is asked once and kept.
    """

    kind = "live"

    def __init__(self, environ: Optional[Mapping[str, str]] = None) -> None:
        self.environ: Mapping[str, str] = dict(os.environ if environ is None else environ)
        self._scanned: Dict[str, List[Entry]] = {}
        self._real: Dict[str, str] = {}

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:  # noqa: D102 - see Root
        return read_regular(path, path, limit)

    def open(self, path: str) -> BinaryIO:  # noqa: D102 - see Root
        return open_regular(path)

    def scan(self, path: str) -> List[Entry]:  # noqa: D102 - see Root
        held = self._scanned.get(path)
        if held is None:
            with os.scandir(sound(path)) as found:
                held = self._scanned[path] = sorted(map(_entry, found))
        return held[:]

    def stat(self, path: str) -> Stat:  # noqa: D102 - see Root
        try:
            return to_stat(os.stat(path))
        except ValueError:  # a name that no file system takes
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def readlink(self, path: str) -> str:  # noqa: D102 - see Root
        return os.readlink(sound(path))

    def realpath(self, path: str) -> str:  # noqa: D102 - see Root
        held = self._real.get(path)
        if held is None:
            held = self._real[path] = self._resolve(path)
        return held

    def _resolve(self, path: str) -> str:
        """Resolve links as os.path.realpath does; of a path whose folder is known only the last name is looked at."""
        folder, _, name = path.rpartition("/")
        if not folder.startswith("/") or name in ("", ".", "..") or folder.endswith("/") or len(path) > 1000:
            try:
                return os.path.realpath(sound(path))
            except OSError:
                return path
        place = f"{self.realpath(folder).rstrip('/')}/{name}"
        try:
            return os.path.realpath(place) if S_ISLNK(os.lstat(place).st_mode) else place
        except OSError:  # what is not there stays as it is
            return place
        except ValueError:  # a name that no file system takes
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
        import json
        import pkgutil

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


def _entry(found: "os.DirEntry[str]") -> Entry:
    link = found.is_symlink()
    try:
        if link:
            return Entry(found.name, found.is_dir(), found.is_file(), True)
        return Entry(
            found.name, found.is_dir(follow_symlinks=False), found.is_file(follow_symlinks=False), False
        )
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return Entry(found.name, False, False, link)


def _run(command: Sequence[str], environ: Mapping[str, str], timeout: float, limit: int) -> str:
    # Imported where a child is started: on most machines none is.
    import subprocess
    import time

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
    import select
    import subprocess
    import time

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
    import subprocess

    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    # No longer than this: where it is stuck in the kernel, waiting would hang envlock with it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
