"""python -m xformers.info, and the warning that xFormers prints when it was built for another stack.

Source of the format: facebookresearch/xformers xformers/info.py and xformers/_cpp_lib.py.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_KEY = re.compile(
    r"((?:memory_efficient_attention|indexing|swiglu|pytorch|gpu|build|source|dcgm_profiler|sp24"
    r"|sequence_parallel_fused|is_\w{1,40}_available)[\w.@:+-]{0,120}?):\s+(\S.{0,1000})"
)
_TITLE = re.compile(r"xFormers (\d[\w.+]{0,60})\s*\Z")
_BUILT = re.compile(r"\s*PyTorch (\d[\w.+]{0,60}) with CUDA (\d{3,5}|None) \(you have (\d[\w.+]{0,60})\)")
_PYTHON = re.compile(r"\s*Python\s{1,4}(\d[\d.]{2,12}) \(you have (\d[\d.]{2,12})\)")


def find(block: Block, start: int) -> int:
    """Start at the title, the warning or a line of the list."""
    lines = block.lines
    if not _ours(lines[start]):
        return start
    end = start + 1
    while end < len(lines) and (_ours(lines[end]) or lines[end].startswith("  ")):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read xFormers' own build and what it saw of torch and the GPU."""
    facts: f.Facts = {}
    values: dict[str, str] = {}
    for line in lines:
        title, built, interpreter = _TITLE.match(line), _BUILT.match(line), _PYTHON.match(line)
        if title:
            f.framework(facts, "xformers", title.group(1))
        elif built:
            f.put(facts, built.group(1), "framework", "xformers", "built_for", "torch")
            f.put(facts, f.cuda_number(built.group(2)), "framework", "xformers", "cuda")
            f.framework(facts, "torch", built.group(3))
        elif interpreter:
            f.python(facts, interpreter.group(2))
        elif key := _KEY.match(line):
            values.setdefault(key.group(1), key.group(2).strip())
    f.framework(facts, "torch", values.get("pytorch.version"))
    f.put(facts, f.cuda_number(values.get("build.cuda_version", "")), "framework", "xformers", "cuda")
    f.put(facts, values.get("build.torch_version"), "framework", "xformers", "built_for", "torch")
    f.architectures(facts, "xformers", values.get("build.env.TORCH_CUDA_ARCH_LIST", ""))
    f.gpu(
        facts, values.get("gpu.name"), compute_capability=f.dotted(values.get("gpu.compute_capability", ""))
    )
    return facts


def _ours(line: str) -> bool:
    return bool(_TITLE.match(line) or _KEY.match(line) or _BUILT.match(line) or _PYTHON.match(line))
