"""pandas.show_versions(): keys and versions below "INSTALLED VERSIONS"."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_LINE = re.compile(r"([A-Za-z][\w.-]{0,40})\s{0,30}:\s{0,4}(.{0,300})\Z")
_NAMES = {"pytables": "tables", "lxml.etree": "lxml", "bs4": "beautifulsoup4", "dateutil": "python-dateutil"}
_SYSTEM = {
    "commit",
    "python",
    "python-bits",
    "os",
    "os-release",
    "version",
    "machine",
    "processor",
    "byteorder",
    "lc_all",
    "lang",
    "locale",
}


def find(block: Block, start: int) -> int:
    """Start at the heading."""
    lines = block.lines
    if lines[start].strip() != "INSTALLED VERSIONS":
        return start
    end = start + 1
    while end < len(lines) and (_LINE.match(lines[end]) or re.match(r"-{3,}|\Z", lines[end])):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read the interpreter, the kernel and the packages."""
    facts: f.Facts = {}
    rows = {found.group(1): found.group(2).strip() for line in lines if (found := _LINE.match(line))}
    f.python(facts, rows.get("python", ""))
    if rows.get("OS") == "Linux":
        f.kernel(facts, rows.get("OS-release", ""))
    elif rows.get("OS") in ("Windows", "Darwin"):
        f.put(facts, rows["OS"].lower(), "host", "platform")
    f.arch(facts, rows.get("machine", ""))
    for key, value in rows.items():
        if key.lower() not in _SYSTEM and f.is_version(value):
            f.pip_package(facts, _NAMES.get(key.lower(), key), value)
    return facts
