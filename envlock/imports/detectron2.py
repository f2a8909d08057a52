"""detectron2.utils.collect_env: a table of two columns between dashed lines, then torch's build flags.

Source of the format: facebookresearch/detectron2 detectron2/utils/collect_env.py.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_ROW = re.compile(r"(\S(?:[^\s]| (?! )){0,60})\s{2,100}(\S.{0,1000})")
_PACKAGES = {
    "numpy": "numpy",
    "Pillow": "pillow",
    "torchvision": "torchvision",
    "fvcore": "fvcore",
    "iopath": "iopath",
}


def find(block: Block, start: int) -> int:
    """Start at the row of sys.platform, Python or detectron2 below a dashed line."""
    lines = block.lines
    if not re.match(r"-{6,}  +-{6,}\s*\Z", lines[start]):
        return start
    end = start + 1
    while end < len(lines) and _ROW.match(lines[end]) and not lines[end].startswith("-----"):
        end += 1
    keys = {found.group(1) for line in lines[start + 1 : end] if (found := _ROW.match(line))}
    if not keys & {"DETECTRON2_ENV_MODULE", "detectron2", "PyTorch", "PyTorch debug build"}:
        return start
    return end + 1 if end < len(lines) and lines[end].startswith("-----") else end


def parse(lines: list[str]) -> f.Facts:
    """Read the table."""
    facts: f.Facts = {}
    rows = {found.group(1): found.group(2).strip() for line in lines if (found := _ROW.match(line))}
    for key, value in rows.items():
        if f.known(value) is None and key != "torch._C._GLIBCXX_USE_CXX11_ABI":
            continue
        if key in _PACKAGES:
            f.pip_package(facts, _PACKAGES[key], value.split()[0])
        elif key.startswith("GPU ") and key[4:5].isdigit():
            card = re.match(r"(.{1,120}?)(?: \(arch=(\d{1,2}\.\d)\))?\Z", value)
            if card:
                f.gpu(facts, card.group(1), key.count(",") + 1, compute_capability=card.group(2))
    _values(facts, rows)
    return facts


def _values(facts: f.Facts, rows: dict[str, str]) -> None:
    f.python(facts, rows.get("Python", ""))
    for name, key in (("torch", "PyTorch"), ("detectron2", "detectron2")):
        f.framework(facts, name, rows.get(key))
    abi = rows.get("torch._C._GLIBCXX_USE_CXX11_ABI")
    if abi in ("True", "False"):
        f.put(facts, abi == "True", "framework", "torch", "cxx11_abi")
    for name in ("detectron2", "torchvision"):
        f.architectures(facts, name, rows.get(f"{name} arch flags", ""))
    f.put(facts, f.dotted(rows.get("Driver version", "")), "driver", "version")
    system = {"linux": "linux", "win32": "windows", "darwin": "darwin"}.get(rows.get("sys.platform", ""))
    f.put(facts, system, "host", "platform")
    cxx = re.match(r"(c\+\+|g\+\+|clang\+\+) (.*)", rows.get("Compiler ($CXX)", rows.get("Compiler", "")))
    if cxx and (version := f.gcc_version(cxx.group(2))):
        f.put(facts, f"{cxx.group(1)} {version}", "compiler", "cxx")
    compiler = rows.get("CUDA compiler", rows.get("NVCC", ""))
    if compiler.startswith("Cuda compilation tools"):
        f.nvcc(facts, compiler, rows.get("CUDA_HOME"))
    elif compiler.startswith("CUDA "):
        # With its extension built, detectron2 names what that was built with instead of asking nvcc.
        f.put(facts, f.dotted(compiler), "framework", "detectron2", "cuda")
