"""What a probe may ask of the root that it reads: files, folders and links; on a live machine, questions.

A probe never calls ``os`` itself. Paths are absolute POSIX text as seen *inside* the root
("/etc/os-release"), whatever folder or image the root is made of. Every method raises ``OSError``
(FileNotFoundError, PermissionError, ...) where the file system would.
"""

from typing import BinaryIO, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence

READ_LIMIT = 16 * 1024 * 1024
"""Bytes that ``Root.read`` returns at most unless told otherwise: metadata is small, input is hostile."""


class Entry(NamedTuple):
    """One name in a folder. ``is_dir`` and ``is_file`` follow links; a dangling link is neither."""

    name: str
    is_dir: bool
    is_file: bool
    is_link: bool


class Stat(NamedTuple):
    """What identifies a file's content without reading it; links are followed."""

    size: int
    """bytes"""
    mtime_ns: int
    device: int
    inode: int
    is_dir: bool
    is_file: bool
    ctime_ns: int = 0
    """When the file was last changed in any way; unlike mtime_ns nobody can set it. 0 where only a live system knows."""


class TooLargeError(OSError):
    """A file holds more bytes than the reader is ready to take."""


class UnobservableError(Exception):
    """A question that this root cannot answer; the text is the reason, ready for ``capture.unobserved``."""


class Root(Protocol):
    """A machine, a folder that holds one, or an image."""

    kind: str
    """"live", "root" or "image"; what ``capture.source`` says."""

    environ: Mapping[str, str]
    """The environment variables: the process's own on a live machine, the image's ENV, empty for a folder."""

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """Return the whole content of a regular file; raises TooLargeError when it holds more than limit."""

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading; seekable, unbuffered reads are up to the caller."""

    def scan(self, path: str) -> List[Entry]:
        """List a folder, sorted by name."""

    def stat(self, path: str) -> Stat:
        """Describe a file or folder; links are followed inside the root."""

    def readlink(self, path: str) -> str:
        """Return the target text of a symbolic link, as written."""

    def realpath(self, path: str) -> str:
        """Resolve every link inside the root; parts that do not exist stay as they are. Never raises."""

    def exists(self, path: str) -> bool:
        """Tell whether a file, folder or device is there, links followed."""

    def is_dir(self, path: str) -> bool:
        """Tell whether a folder is there, links followed."""

    def is_file(self, path: str) -> bool:
        """Tell whether a regular file is there, links followed."""

    def filesystem_size(self, path: str) -> int:
        """Return the bytes that the file system mounted at a folder holds in all, used or free.

        Raises UnobservableError on any root but a live one: a folder's size is that of the disk it was
        copied to.
        """

    def run(self, command: Sequence[str], timeout: float = 5.0, limit: int = 1024 * 1024) -> str:
        """Run a program of the live machine and return what it printed on stdout, decoded.

        No shell, no stdin, stderr dropped. Raises UnobservableError on any root but a live one, and
        when the program is missing, fails, prints more than limit bytes or needs more than timeout
        seconds.
        """

    def ask(self, question: str, arguments: Sequence[str] = (), timeout: float = 10.0) -> Dict[str, object]:
        """Put a question to the live machine in a child process, and return its JSON object.

        ``question`` names a module of ``envlock.probe.ask`` (nvml, libcuda, library); it is run by the
        interpreter that runs envlock, isolated, with a time limit, so that a hanging or crashing
        driver costs no more than that. Raises UnobservableError with the reason otherwise.
        """


def read_text(root: Root, path: str, limit: int = READ_LIMIT) -> str:
    """Return a file of the root as text; bytes that are not UTF-8 are replaced."""
    return root.read(path, limit).decode("utf-8", "replace")


def try_read(root: Root, path: str, limit: int = READ_LIMIT) -> Optional[str]:
    """Return a file of the root as text, or None where it cannot be read for whatever reason."""
    try:
        return read_text(root, path, limit)
    except OSError:
        return None
