"""The live machine: its file system, its environment, and questions put to it in child processes."""

import json
import os
import pkgutil
import subprocess
import sys
from typing import BinaryIO, Dict, List, Mapping, Optional, Sequence

from envlock.probe.root import READ_LIMIT, Entry, Stat, TooLargeError, UnobservableError
from envlock.roots.folder import open_regular, to_stat


class LiveRoot:
    """The root protocol over this machine; ``environ`` stands in for the process's own when given."""

    kind = "live"

    def __init__(self, environ: Optional[Mapping[str, str]] = None) -> None:
        self.environ: Mapping[str, str] = dict(os.environ if environ is None else environ)

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:  # noqa: D102 - see Root
        with open_regular(path) as file:
            # Files under /proc say size 0 and come in pieces: read to the end, not once.
            pieces = []
            held = 0
            while True:
                piece = file.read(min(limit + 1 - held, 1 << 20))
                if not piece:
                    break
                pieces.append(piece)
                held += len(piece)
                if held > limit:
                    raise TooLargeError(f"{path}: larger than {limit} bytes")
        return b"".join(pieces)

    def open(self, path: str) -> BinaryIO:  # noqa: D102 - see Root
        return open_regular(path)

    def scan(self, path: str) -> List[Entry]:  # noqa: D102 - see Root
        with os.scandir(path) as found:
            return sorted(Entry(e.name, _safe(e.is_dir), _safe(e.is_file), e.is_symlink()) for e in found)

    def stat(self, path: str) -> Stat:  # noqa: D102 - see Root
        return to_stat(os.stat(path))

    def readlink(self, path: str) -> str:  # noqa: D102 - see Root
        return os.readlink(path)

    def realpath(self, path: str) -> str:  # noqa: D102 - see Root
        return os.path.realpath(path)

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
        except ValueError:
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
    except OSError as error:
        raise UnobservableError(f"{name} cannot be run: {error.strerror or error}") from None
    with process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise UnobservableError(f"{name} did not answer within {timeout:g} s") from None
    if process.returncode < 0:
        raise UnobservableError(f"{name} was ended by signal {-process.returncode}")
    if process.returncode:
        raise UnobservableError(f"{name} failed with exit code {process.returncode}")
    if len(output) > limit:
        raise UnobservableError(f"{name} printed more than {limit} bytes")
    return output.decode("utf-8", "replace")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a child and what it started; a process stuck in a driver call may stay behind unreaped."""
    import signal

    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    if process.stdout is not None:
        process.stdout.close()
