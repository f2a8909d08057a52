"""A folder that holds a machine's file system: a mounted image, a container's root, a test fixture."""

import os
import stat as stat_module
from typing import BinaryIO, Dict, List, Mapping, Optional, Sequence

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
            except OSError:
                self._links[path] = None
        return self._links[path]

    def realpath(self, path: str) -> str:  # noqa: D102 - see Root
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
                return path
            if target.startswith("/"):
                resolved = []
            pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        return "/" + "/".join(resolved)

    def _outside(self, path: str) -> str:
        """Return where a path of this root lies in the file system of this process."""
        if "\0" in path:
            raise FileNotFoundError(path)
        return self._folder + self.realpath(path)

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:  # noqa: D102 - see Root
        with self.open(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise TooLargeError(f"{path}: larger than {limit} bytes")
        return content

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
        parent, _, name = path.rstrip("/").rpartition("/")
        return os.readlink(self._outside(parent or "/").rstrip("/") + "/" + name)

    def exists(self, path: str) -> bool:  # noqa: D102 - see Root
        try:
            return os.path.exists(self._outside(path)) and not os.path.islink(self._outside(path))
        except (OSError, ValueError):
            return False

    def is_dir(self, path: str) -> bool:  # noqa: D102 - see Root
        try:
            return stat_module.S_ISDIR(os.lstat(self._outside(path)).st_mode)
        except (OSError, ValueError):
            return False

    def is_file(self, path: str) -> bool:  # noqa: D102 - see Root
        try:
            return stat_module.S_ISREG(os.lstat(self._outside(path)).st_mode)
        except (OSError, ValueError):
            return False

    def filesystem_size(self, path: str) -> int:  # noqa: D102 - see Root
        raise UnobservableError("a folder has no file systems of its own")

    def run(self, command: Sequence[str], timeout: float = 5.0, limit: int = 1024 * 1024) -> str:  # noqa: D102
        raise UnobservableError("nothing is run in a folder")

    def ask(self, question: str, arguments: Sequence[str] = (), timeout: float = 10.0) -> Dict[str, object]:  # noqa: D102
        raise UnobservableError("a folder has no driver to ask")


def open_regular(path: str) -> BinaryIO:
    """Open a regular file; a device or a named pipe, which might block, is refused with OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def to_stat(result: os.stat_result) -> Stat:
    """Reduce the system's answer to what probes need."""
    return Stat(
        size=result.st_size,
        mtime_ns=result.st_mtime_ns,
        device=result.st_dev,
        inode=result.st_ino,
        is_dir=stat_module.S_ISDIR(result.st_mode),
        is_file=stat_module.S_ISREG(result.st_mode),
    )
