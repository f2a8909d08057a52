"""pip show: core metadata of single distributions, `Name:` and `Version:` above all."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_FIELD = re.compile(r"(?:Name|Version|Summary|Home-page|Author(?:-email)?|License(?:-Expression)?|Location|Requires"
                    r"|Required-by|Editable project location|Installer|---)(?::|\Z)")  # fmt: skip


def find(block: Block, start: int) -> int:
    """Start at "Name:" with "Version:" right below."""
    lines = block.lines
    if not (lines[start].startswith("Name: ") and lines[start + 1 : start + 2]
            and lines[start + 1].startswith("Version: ")):  # fmt: skip
        return start
    end = start + 2
    while end < len(lines) and _FIELD.match(lines[end]):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read the name and version of each; authors and folders stay behind."""
    facts: f.Facts = {}
    name = ""
    for line in lines:
        key, _, value = line.partition(":")
        if key == "Name":
            name = value.strip()
        elif key == "Version" and name:
            f.pip_package(facts, name, value.strip())
        elif key == "Editable project location" and name:
            f.pip_package(facts, name, editable=True)
    return facts
