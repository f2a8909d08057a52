"""Runs a script or module in this process as ``python script.py`` and ``python -m module`` do."""

from __future__ import annotations

import importlib.machinery
import io
import os
import runpy
import sys
import types
from collections.abc import Sequence


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a script as ``__main__``, with its folder first on sys.path (docs.python.org, "Command line", <script>).

    Not by runpy.run_path: that has one spelling for argv[0], which stays as given, and ``__file__``, which is
    absolute; and it takes ``__main__`` away from threads and exit handlers that outlive the script's last line.
    """
    sys.argv = [path, *arguments]
    if not getattr(sys.flags, "safe_path", False):  # -P, from CPython 3.11 on
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    absolute = os.path.join(os.getcwd(), path)
    with io.open_code(absolute) as file:
        code = compile(file.read(), absolute, "exec", dont_inherit=True)
    main = types.ModuleType("__main__")
    main.__file__ = absolute
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", absolute)
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102 - the script that this process was asked to be


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module as ``__main__``; sys.path begins with the working folder already, as with any ``-m``."""
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
