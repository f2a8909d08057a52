"""Draws docs/diff.svg: what a terminal shows of `envlock diff`, as it is printed; ``--check`` only compares."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

TOP = Path(__file__).parent.parent
PICTURE = TOP / "docs/diff.svg"
COMMAND = "envlock diff old-driver.toml train-h100.toml"
COLUMNS = 122
"""Characters in a line; longer ones are broken as a terminal would."""
WIDTH, HEIGHT, MARGIN = 8.4, 20, 20
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "36": "#79c0ff", "2": "#8b949e"}
SEQUENCE = re.compile(r"\x1b\[([\d;]*)m")


def printed() -> str:
    """Return what the command prints on a terminal that shows colours."""
    environ = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "GITHUB_ACTIONS")}
    done = subprocess.run(
        [sys.executable, "-m", *COMMAND.split()], cwd=TOP / "examples", capture_output=True, text=True, check=False,
        env={**environ, "FORCE_COLOR": "1", "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    return done.stdout


def lines(text: str) -> list[list[tuple[str, str]]]:
    """Return lines of (style, text) runs, none wider than the terminal."""
    found: list[list[tuple[str, str]]] = []
    style = ""
    for line in text.splitlines():
        runs: list[tuple[str, str]] = []
        room = COLUMNS
        for place, part in enumerate(SEQUENCE.split(line)):
            if place % 2:
                style = _style(part)
                continue
            rest = part
            while len(rest) > room:
                runs.append((style, rest[:room]))
                found.append(runs)
                runs, rest, room = [], rest[room:], COLUMNS
            runs.append((style, rest))
            room -= len(rest)
        found.append(runs)
    return found


def _style(codes: str) -> str:
    said = codes.split(";")
    colour = next((COLOURS[code] for code in said if code in COLOURS), "")
    style = f' fill="{colour}"' if colour else ""
    return style + (' font-weight="bold"' if "1" in said else "")


def draw(text: str) -> str:
    """Return the picture."""
    rows = [[(' fill="#7ee787"', "$ "), ("", COMMAND)], [], *lines(text)]
    width, height = 2 * MARGIN + COLUMNS * WIDTH, 2 * MARGIN + len(rows) * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}">',
        f"<title>{escape(COMMAND)}: it names the driver, first, and what putting it back would remove</title>",
        f'<rect width="{width:.0f}" height="{height}" rx="10" fill="#0d1117"/>',
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3" '
        'xml:space="preserve">',
    ]
    for row, runs in enumerate(rows):
        spans = "".join(f"<tspan{style}>{escape(part)}</tspan>" for style, part in runs if part)
        if spans:
            parts.append(f'<text x="{MARGIN}" y="{MARGIN + row * HEIGHT + 14}">{spans}</text>')
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def main() -> None:
    """Draw, or compare."""
    picture = draw(printed())
    if "--check" in sys.argv:
        same = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == picture
        sys.exit(0 if same else "docs/diff.svg is not what the command prints: python tools/make_picture.py")
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
