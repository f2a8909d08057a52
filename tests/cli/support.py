"""Runs the command as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

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
