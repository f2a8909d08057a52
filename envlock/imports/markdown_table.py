"""A Markdown table of packages, as people make one for a report: `| Package | Version |`."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_RULE = re.compile(r"\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*\Z")


def find(block: Block, start: int) -> int:
    """Start at a header that names packages and versions, a rule below it."""
    lines = block.lines
    if "|" not in lines[start] or start + 1 >= len(lines) or not _RULE.match(lines[start + 1][:400]):
        return start
    header = [cell.lower() for cell in _cells(lines[start])]
    if not (header and header[0] in ("package", "name", "library", "module") and "version" in header):
        return start
    end = start + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read names and versions."""
    facts: f.Facts = {}
    column = [cell.lower() for cell in _cells(lines[0])].index("version")
    for line in lines[2:]:
        cells = _cells(line)
        if len(cells) > column and f.is_version(cells[column]):
            f.pip_package(facts, cells[0], cells[column])
    return facts


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`*") for cell in line.strip().strip("|")[:2000].split("|")]
