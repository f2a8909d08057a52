"""Files of results: whole or untouched, whatever happens while they are written."""

from __future__ import annotations

import os
import re
import stat

from envlock.errors import EnvlockError


def write_atomically(path: str, text: str) -> None:
    """Replace a file's content in one step, so that a full disk or a killed process leaves the old one whole.

    A link is followed and its target replaced; the mode of an existing file stays. What is no file on a
    disk (/dev/stdout, a named pipe) is written to as it is. Raises EnvlockError.
    """
    temporary = None
    # What came undecodable from a file's name must not become undecodable text.
    content = text.encode("utf-8", "backslashreplace")
    try:
        descriptor = _descriptor(path)
        if descriptor is not None:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            return
        target = os.path.realpath(path)
        # As tempfile.mkstemp does it; importing that takes longer than all of this.
        name = f"{os.path.dirname(target)}/.envlock-{os.urandom(8).hex()}"
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        temporary = name
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise EnvlockError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _descriptor(path: str) -> int | None:
    """Open what cannot be replaced: a device, a named pipe, or what a shell has open for us; None for a file."""
    held = re.fullmatch(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,9})", path)
    if held:
        # To open it anew would begin at the start of a file that others write to as well.
        return os.dup(int(held[2]) if held[2] else {"stdout": 1, "stderr": 2}[held[1]])
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return None
    except FileNotFoundError:
        return None
    return os.open(path, os.O_WRONLY)


def _mode(target: str) -> int:
    try:
        return os.stat(target).st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
