"""DeepSpeed's ds_report: `key ....... value` lines; what it calls nvcc is the one under CUDA_HOME.

Source of the format: deepspeedai/DeepSpeed deepspeed/env_report.py.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_LINE = re.compile(
    r"(torch version|torch cuda version|torch hip version|nvcc version|deepspeed info|torch install path"
    r"|deepspeed install path|deepspeed wheel compiled w\.|shared memory \(/dev/shm\) size)"
    r" \.{1,60} (\S.{0,1000})"
)


def find(block: Block, start: int) -> int:
    """Start at the general information's heading or a line of it."""
    lines = block.lines
    line = lines[start]
    if not _LINE.match(line) and not line.startswith("DeepSpeed general environment info"):
        return start
    end = start + 1
    while end < len(lines) and (_LINE.match(lines[end]) or re.match(r"\s*\[WARNING\]|-----|\Z", lines[end])):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read the general information."""
    facts: f.Facts = {}
    values = {found.group(1): found.group(2).strip() for line in lines if (found := _LINE.match(line))}
    f.framework(facts, "torch", values.get("torch version"))
    f.put(facts, f.dotted(values.get("torch cuda version", "")), "framework", "torch", "cuda")
    hip = f.known(values.get("torch hip version"))
    f.put(facts, hip and hip.split()[0], "framework", "torch", "hip")
    f.framework(facts, "deepspeed", values.get("deepspeed info", "").partition(",")[0])
    wheel = re.match(
        r"torch (\d[\w.+]{0,30})\s*,\s*cuda (\d[\d.]{0,10})", values.get("deepspeed wheel compiled w.", "")
    )
    if wheel and wheel.group(1) != "0.0":
        f.put(facts, wheel.group(1), "framework", "deepspeed", "built_for", "torch")
        f.put(facts, wheel.group(2), "framework", "deepspeed", "cuda")
    f.nvcc(facts, values.get("nvcc version", ""))
    size = re.match(r"(\d{1,7}(?:\.\d{1,3})?) (GB|TB|MB)\Z", values.get("shared memory (/dev/shm) size", ""))
    if size:
        scale = {"GB": 1.0, "TB": 1024.0, "MB": 1 / 1024}[
            size.group(2)
        ]  # divided by 1024 in spite of their names
        f.put(facts, round(float(size.group(1)) * scale, 2), "host", "shm_gib")
    return facts
