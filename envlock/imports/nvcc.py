"""nvcc --version."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_RELEASE = re.compile(r"\s*Cuda compilation tools, release \d{1,3}\.\d{1,2}, V\d")
_AROUND = re.compile(r"\s*(?:nvcc: NVIDIA|Copyright \(c\)|Built on |Build cuda_)")


def find(block: Block, start: int) -> int:
    """Start at the compiler's name or its release line."""
    lines = block.lines
    end, seen = start, False
    while end < min(len(lines), start + 12) and (_RELEASE.match(lines[end]) or _AROUND.match(lines[end])):
        seen |= bool(_RELEASE.match(lines[end]))
        end += 1
    return end if seen else start


def parse(lines: list[str]) -> f.Facts:
    """Read the version, which names both the compiler and its toolkit."""
    facts: f.Facts = {}
    for line in lines:
        if _RELEASE.match(line):
            f.nvcc(facts, line)
            break
    return facts
