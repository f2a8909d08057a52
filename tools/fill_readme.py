"""Puts the true output of the commands in README.md under them; ``--check`` only compares."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- output of: (envlock [^>]*?) -->\n```text\n)(.*?)(```\n)", re.DOTALL)


def fill(text: str) -> str:
    """Return the page with every marked block holding what its command prints."""

    def run(match: re.Match[str]) -> str:
        command = [sys.executable, "-m", *match.group(2).split()]
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GITHUB_", "FORCE_COLOR"))
        }
        printed = subprocess.run(
            command, cwd=TOP, env=plain, capture_output=True, text=True, check=False
        ).stdout
        return match.group(1) + printed + match.group(4)

    return BLOCK.sub(run, text)


def main() -> None:
    """Fill, or compare."""
    page = TOP / "README.md"
    filled = fill(page.read_text())
    if "--check" in sys.argv:
        sys.exit(
            0
            if filled == page.read_text()
            else "README.md is not what its commands print: python tools/fill_readme.py"
        )
    page.write_text(filled)


if __name__ == "__main__":
    main()
