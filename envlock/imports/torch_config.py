"""torch.__config__.show(): what PyTorch was built with, alone or inside other reports."""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block


def find(block: Block, start: int) -> int:
    """Start at "PyTorch built with:"; go on over its list."""
    lines = block.lines
    if not lines[start].strip().startswith("PyTorch built with:"):
        return start
    end = start + 1
    while end < len(lines) and re.match(r"\s*- \S", lines[end]):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read CUDA, cuDNN, GPU architectures and the C++ ABI."""
    facts: f.Facts = {}
    seen = ""
    for line in lines:
        item = line.strip().removeprefix("- ")
        if item.startswith("CUDA Runtime "):
            f.put(facts, f.dotted(item), "framework", "torch", "cuda")
        elif item.startswith("HIP Runtime "):
            f.put(facts, item.split()[-1], "framework", "torch", "hip")
        elif item.lower().startswith("cudnn "):
            seen = seen or f.dotted(item) or ""
        elif item.startswith("NVCC architecture flags:"):
            f.architectures(facts, "torch", ",".join(re.findall(r"code=((?:sm|compute)_\w{2,4})", item)))
        elif item.startswith("Build settings:"):
            _settings(facts, item)
    # The cuDNN line names the library that was loaded, the settings the one that was built with.
    f.put(facts, seen, "framework", "torch", "cudnn")
    return facts


def _settings(facts: f.Facts, item: str) -> None:
    cudnn = re.search(r"\bCUDNN_VERSION=(\d[\d.]{1,20})", item)
    if cudnn:
        f.put(facts, cudnn.group(1), "framework", "torch", "cudnn")
    abi = re.search(r"_GLIBCXX_USE_CXX11_ABI=([01])", item)
    if abi:
        f.put(facts, abi.group(1) == "1", "framework", "torch", "cxx11_abi")
