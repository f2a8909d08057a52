"""Where results go: standard output, or a file that is whole or untouched."""

from __future__ import annotations

import os
import sys

from envlock.errors import EnvlockError


def emit(text: str, path: str | None) -> None:
    """Write a result to standard output (None or "-") or atomically to a file; raises EnvlockError."""
    if path is None or path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_atomically(path, text)


def write_atomically(path: str, text: str) -> None:
    """Replace a file's content in one step, so that a full disk or a killed process leaves the old one whole.

    A link is followed and its target replaced; the mode of an existing file stays. Raises EnvlockError.
    """
    target = os.path.realpath(path)
    temporary = None
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "w", encoding="utf-8") as device:  # /dev/stdout, a named pipe
                device.write(text)
            return
        # As tempfile.mkstemp does it; importing that takes longer than all of this.
        name = f"{os.path.dirname(target)}/.envlock-{os.urandom(8).hex()}"
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        temporary = name
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise EnvlockError(f"cannot write {path}: {error.strerror or error}") from None


def _mode(target: str) -> int:
    try:
        return os.stat(target).st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
