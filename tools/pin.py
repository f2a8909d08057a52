"""Writes .ci/*.txt: every package that the tests are run with, pinned with hashes, for all supported Pythons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parent.parent
COMPILE = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--generate-hashes", "--no-header",
    "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--upgrade",
)  # fmt: skip
OUTPUTS = {
    "requirements.txt": ("pyproject.toml", "--extra", "test"),
    "bootstrap.txt": (".ci/bootstrap.in",),
}
"""File -> what it is made from."""


def main() -> None:
    """Resolve anew."""
    uv = Path(sys.executable).parent / "uv"
    for name, source in OUTPUTS.items():
        command = [str(uv), *COMPILE, *source, "--output-file", f".ci/{name}"]
        subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
