"""conda env export and environment.yml: a small, fixed shape of YAML, read line by line.

A file that people wrote by hand holds bounds and bare names; only exact versions are facts.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.pip_freeze import requirement
from envlock.imports.text import Block

_TOP = re.compile(r"(?:name|channels|dependencies|prefix|variables|platforms)\s*:")
_ITEM = re.compile(r"(\s*)- (?:['\"]?)([^'\"#]{1,500})")
_SPEC = re.compile(
    r"(?:([\w./-]{1,100})::)?([A-Za-z0-9_][\w.-]{0,99})(?:\s?={1,2}\s?(\d[\w.!+]{0,99})(?:=([\w.+]{1,120}))?)?\s*\Z"
)

LOOKAHEAD = 100
"""Lines within which the dependencies must begin: a text of first keys only must not be read again and again."""


def find(block: Block, start: int) -> int:
    """Start at "name:", "channels:" or "dependencies:" where a list of dependencies follows."""
    lines = block.lines
    if not _TOP.match(lines[start]):
        return start
    end, seen = start, False
    while end < len(lines) and (_TOP.match(lines[end]) or re.match(r"\s*-\s|\s*#|\s*\Z|\s+\w+:", lines[end])):
        seen |= lines[end].startswith("dependencies")
        end += 1
        if not seen and end > start + LOOKAHEAD:
            break
    return end if seen else start


def parse(lines: list[str]) -> f.Facts:
    """Read pins of conda and pip; the prefix names the user's folders and stays behind."""
    facts: f.Facts = {}
    inside, pip_margin = False, -1
    for line in lines:
        if _TOP.match(line):
            inside, pip_margin = line.startswith("dependencies"), -1
            continue
        item = _ITEM.match(line)
        if not inside or not item:
            continue
        margin, text = len(item.group(1)), item.group(2).strip()
        if text.rstrip() == "pip:":
            pip_margin = margin
        elif pip_margin >= 0 and margin > pip_margin:
            if not requirement(facts, text) and f.is_name(text):
                f.pip_package(facts, text)
        else:
            pip_margin = -1
            spec = _SPEC.match(text)
            if spec:
                f.conda_package(facts, spec.group(2), spec.group(3), spec.group(4), spec.group(1))
    return facts
