"""Where results go: standard output, or a file."""

from __future__ import annotations

import io
import os
import sys

from envlock.files import write_atomically


def emit(text: str, path: str | None) -> None:
    """Write a result to standard output (None or "-") or atomically to a file; raises EnvlockError."""
    if path is None or path == "-":
        _print(text)
    else:
        write_atomically(path, text)


def _print(text: str) -> None:
    """Write to standard output: UTF-8 into files and pipes, whatever the locale, else TOML and JSON would be none.

    On a terminal that cannot show a character its escape stands for it. A reader that has seen enough
    (head) changes nothing about the verdict.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Keep the interpreter's own flush at exit quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
