"""Runs the command as a user does, in a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

TOP = Path(__file__).parent.parent.parent
EXAMPLES = TOP / "examples"


def run(
    *arguments: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    python: Sequence[str] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m envlock`` and return what it printed and its exit code."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GITHUB_", "FORCE_COLOR", "NO_COLOR"))
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH", "")]))
    environment.update(env or {})
    return subprocess.run(
        [*python, "-m", "envlock", *map(str, arguments)],
        input=stdin, capture_output=True, text=True, check=False, env=environment, cwd=cwd, timeout=120,
    )  # fmt: skip


def run_here(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in this process: the same output and exit code, without what a new interpreter costs."""
    from envlock.cli import main

    code: object = 0
    streams = {
        name: io.TextIOWrapper(io.BytesIO(content.encode()), encoding="utf-8")
        for name, content in (("stdin", stdin), ("stdout", ""), ("stderr", ""))
    }
    command = ["envlock", *map(str, arguments)]
    # The collector's settings are for a process that ends with its command.
    settings = (
        mock.patch("gc.set_threshold"),
        mock.patch("gc.freeze"),
        mock.patch.object(sys, "argv", command),
    )
    with contextlib.ExitStack() as stack:
        for setting in (*settings, mock.patch.multiple(sys, **streams)):
            stack.enter_context(setting)
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    texts = []
    for name in ("stdout", "stderr"):
        streams[name].flush()
        texts.append(streams[name].buffer.getvalue().decode())  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(command, int(code or 0), *texts)  # type: ignore[call-overload]
