"""python -m bitsandbytes: the old "CUDA SETUP" lines and the report of 0.46 and newer.

"Detected CUDA version 118" is of the CUDA runtime that it found, "CUDA_VERSION=124" is torch's.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_TITLE = re.compile(r"=+ bitsandbytes v(\d[\w.+]{0,40}) =+")
_OLD = re.compile(r"CUDA SETUP: |CUDA specs: |CUDA specs:CUDASpecs|PyTorch settings found: |CUDA SETUP:")
_TORCH = re.compile(r"CUDA_VERSION=(\d{2,4}), Highest Compute Capability: \(?(\d{1,2})(?:\.|, )(\d)")
_SPECS = re.compile(r"highest_compute_capability=\((\d{1,2}), (\d)\), cuda_version_string='(\d{2,4})'")
_DETECTED = re.compile(r"Detected CUDA version (\d{2,4})\b")
_HIGHEST = re.compile(r"Highest compute capability among GPUs detected: (\d{1,2}\.\d)")
_RUNTIME = re.compile(r"CUDA runtime path found: (/\S{1,500}libcudart\.so[\d.]{0,20})")


def find(block: Block, start: int) -> int:
    """Start at a line of either form."""
    lines = block.lines
    if _TITLE.match(lines[start]):
        end = start + 1
        while end < len(lines) and not re.match(r"={5,}|\Z", lines[end]):
            end += 1
        return end
    end = start
    while end < len(lines) and _OLD.search(lines[end][:200]):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read either form."""
    facts: f.Facts = {}
    title = _TITLE.match(lines[0])
    if title:
        f.framework(facts, "bitsandbytes", title.group(1))
        _report(facts, lines[1:])
        return facts
    runtime: f.Facts = {"name": "cudart"}
    for line in (line[:1000] for line in lines):
        torch = _TORCH.search(line)
        specs = _SPECS.search(line)
        if torch:
            f.put(facts, f.cuda_number(torch.group(1)), "framework", "torch", "cuda")
            f.gpu(facts, None, compute_capability=f"{torch.group(2)}.{torch.group(3)}")
        elif specs:
            f.put(facts, f.cuda_number(specs.group(3)), "framework", "torch", "cuda")
            f.gpu(facts, None, compute_capability=f"{specs.group(1)}.{specs.group(2)}")
        elif highest := _HIGHEST.search(line):
            f.gpu(facts, None, compute_capability=highest.group(1))
        elif detected := _DETECTED.search(line):
            f.put(runtime, f.cuda_number(detected.group(1)), "version")
        elif path := _RUNTIME.search(line):
            f.put(runtime, path.group(1), "path")
    if len(runtime) > 1:
        facts["library"] = [runtime]
    return facts


def _report(facts: f.Facts, lines: list[str]) -> None:
    packages = False
    for line in lines:
        key, _, value = line.strip().partition(": ")
        packages |= key.startswith("Related packages")
        if f.known(value) is None:
            continue
        if packages:
            f.pip_package(facts, key, value)
        elif key == "Platform":
            f.platform(facts, value)
        elif key == "libc":
            f.libc(facts, value)
        elif key == "Python":
            f.python(facts, value)
        elif key == "PyTorch":
            f.framework(facts, "torch", value)
        elif key in ("CUDA", "HIP"):
            f.put(facts, value, "framework", "torch", key.lower())
