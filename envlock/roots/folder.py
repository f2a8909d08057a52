"""A folder that holds a machine's file system: a mounted image, a container's root, a test fixture."""

import errno
import os
import stat as stat_module
from typing import BinaryIO, Dict, List, Mapping, Optional, Sequence, Tuple

from envlock.probe.root import READ_LIMIT, Entry, Stat, TooLargeError, UnobservableError

LINK_LIMIT = 40
"""Links followed in one path at most, as in Linux (path_resolution(7))."""


class FolderRoot:
    """The root protocol over a folder; links, absolute ones too, never lead out of it."""

    kind = "root"

    def __init__(self, folder: str, environ: Optional[Mapping[str, str]] = None) -> None:
        self._folder = os.path.realpath(folder)
        if not os.path.isdir(self._folder):
            raise NotADirectoryError(f"{folder}: not a folder")
        self.environ: Mapping[str, str] = dict(environ or {})
        self._links: Dict[str, Optional[str]] = {}

    def _link(self, path: str) -> Optional[str]:
        """Return the link's text at a path whose parent is resolved already, or None if it is no link."""
        if path not in self._links:
            try:
                self._links[path] = os.readlink(self._folder + path)
            except (OSError, ValueError):  # ValueError: a name that no file system takes
                self._links[path] = None
        return self._links[path]

    def realpath(self, path: str) -> str:  # noqa: D102 - see Root
        resolved = self._resolve(path)
        return path if resolved is None else resolved

    def _resolve(self, path: str) -> Optional[str]:
        """Return the path without links, or None where they lead in a circle."""
        resolved: List[str] = []
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        followed = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if resolved:
                    resolved.pop()
                continue
            target = self._link("/" + "/".join([*resolved, part]))
            if target is None:
                resolved.append(part)
                continue
            followed += 1
            if followed > LINK_LIMIT:
                return None
            if target.startswith("/"):
                resolved = []
            pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        return "/" + "/".join(resolved)

    def _outside(self, path: str) -> str:
        """Return where a path of this root lies in the file system of this process.

        Raises OSError where there can be no such file. A path with unresolved links must never be
        returned: the system would follow them from its own root, not from this one.
        """
        resolved = self._resolve(sound(path))
        if resolved is None:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return self._folder + resolved

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:  # noqa: D102 - see Root
        return read_regular(self._outside(path), path, limit)

    def open(self, path: str) -> BinaryIO:  # noqa: D102 - see Root
        return open_regular(self._outside(path))

    def scan(self, path: str) -> List[Entry]:  # noqa: D102 - see Root
        entries = []
        with os.scandir(self._outside(path)) as found:
            for entry in found:
                if entry.is_symlink():
                    inside = path.rstrip("/") + "/" + entry.name
                    entries.append(Entry(entry.name, self.is_dir(inside), self.is_file(inside), True))
                else:
                    entries.append(Entry(entry.name, entry.is_dir(), entry.is_file(), False))
        entries.sort()
        return entries

    def stat(self, path: str) -> Stat:  # noqa: D102 - see Root
        return to_stat(os.lstat(self._outside(path)))

    def readlink(self, path: str) -> str:  # noqa: D102 - see Root
        parent, _, name = sound(path).rstrip("/").rpartition("/")
        return os.readlink(self._outside(parent or "/").rstrip("/") + "/" + name)

    def exists(self, path: str) -> bool:  # noqa: D102 - see Root
        try:
            return os.path.lexists(self._outside(path))
        except OSError:
            return False

    def is_dir(self, path: str) -> bool:  # noqa: D102 - see Root
        try:
            return stat_module.S_ISDIR(os.lstat(self._outside(path)).st_mode)
        except OSError:
            return False

    def is_file(self, path: str) -> bool:  # noqa: D102 - see Root
        try:
            return stat_module.S_ISREG(os.lstat(self._outside(path)).st_mode)
        except OSError:
            return False

    def filesystem_size(self, path: str) -> int:  # noqa: D102 - see Root
        raise UnobservableError("a folder has no file systems of its own")

    def run(self, command: Sequence[str], timeout: float = 5.0, limit: int = 1024 * 1024) -> str:  # noqa: D102
        raise UnobservableError("nothing is run in a folder")

    def ask(self, question: str, arguments: Sequence[str] = (), timeout: float = 10.0) -> Dict[str, object]:  # noqa: D102
        raise UnobservableError("a folder has no driver to ask")


def sound(path: str) -> str:
    """Return the path; raises FileNotFoundError for text that no file system takes as one."""
    try:
        if b"\0" not in os.fsencode(path):
            return path
    except UnicodeEncodeError:
        pass
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def open_regular(path: str) -> BinaryIO:
    """Open a regular file; a device or a named pipe, which might block or act, is refused with OSError."""
    return os.fdopen(_descriptor(path)[0], "rb", buffering=0)


def read_regular(path: str, shown: str, limit: int) -> bytes:
    """Read a regular file to its end; raises TooLargeError when it holds more than limit bytes.

    ``shown`` is what errors call it. Straight from the descriptor: hundreds of small files are read for one
    environment.
    """
    descriptor, size = _descriptor(path)
    try:
        if size > limit:
            raise TooLargeError(f"{shown}: larger than {limit} bytes")
        # One byte more than it says, so that most files are read at once. Files under /proc say 0 and
        # come in pieces: read to the end.
        piece = os.read(descriptor, min(size or 65536, limit) + 1)
        if piece and len(piece) == size:
            return piece
        pieces, held = [], 0
        while piece:
            pieces.append(piece)
            held += len(piece)
            if held > limit:
                raise TooLargeError(f"{shown}: larger than {limit} bytes")
            piece = os.read(descriptor, min(limit + 1 - held, 65536))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _descriptor(path: str) -> Tuple[int, int]:
    """Open a regular file for reading, and return its size as well; raises OSError for everything else."""
    # Asked before it is opened, since opening alone makes some devices act (a watchdog, a tape); and
    # after, since it may have been replaced between.
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # a name that no file system takes
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    if stat_module.S_ISREG(mode):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        opened = os.fstat(descriptor)
        if stat_module.S_ISREG(opened.st_mode):
            return descriptor, opened.st_size
        os.close(descriptor)
    elif stat_module.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(f"{path}: not a regular file")


def to_stat(result: os.stat_result) -> Stat:
    """Reduce the system's answer to what probes need."""
    return Stat(
        size=result.st_size,
        mtime_ns=result.st_mtime_ns,
        device=result.st_dev,
        inode=result.st_ino,
        is_dir=stat_module.S_ISDIR(result.st_mode),
        is_file=stat_module.S_ISREG(result.st_mode),
        ctime_ns=result.st_ctime_ns,
    )
