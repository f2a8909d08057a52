"""torch.utils.collect_env, PyTorch 1.0 to the newest, and vLLM's form of it with sections and aligned colons.

Source of the format: pytorch/pytorch torch/utils/collect_env.py, vllm-project/vllm vllm/collect_env.py.
Its "CUDA runtime version" is nvcc's, and its cuDNN is what ldconfig lists, not what torch loads.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.conda_list import conda_row
from envlock.imports.pip_freeze import requirement
from envlock.imports.text import Block

ANCHORS = {
    "Is debug build", "CUDA used to build PyTorch", "ROCM used to build PyTorch", "Clang version", "CMake version",
    "Libc version", "Is CUDA available", "CUDA runtime version", "GPU models and configuration",
    "Nvidia driver version", "cuDNN version", "HIP runtime version", "MIOpen runtime version", "Is XNNPACK available",
    "Python platform", "Versions of relevant libraries", "CUDA_MODULE_LOADING set to",
}  # fmt: skip
_LISTED = re.compile(r"\[(pip3?|conda)\]\s+(\S.*)")


def find(block: Block, start: int) -> int:
    """Start at any line that only collect_env writes; what follows belongs to it until another report."""
    line = block.lines[start]
    if line.startswith("[") and _LISTED.match(line):
        return start + 1
    stripped = line.strip()
    if stripped.startswith("Collecting environment information") or stripped in (
        "System Info",
        "PyTorch Info",
    ):
        return start + 1
    key = line.partition(":")[0].strip()
    if key == "PyTorch version":
        # Bug forms ask for a "PyTorch version" as well; collect_env goes on with its own keys.
        following = (after.partition(":")[0].strip() for after in block.lines[start + 1 : start + 4])
        return start + 1 if any(key in ANCHORS for key in following) else start
    return start + 1 if key in ANCHORS and ":" in line else start


def parse(lines: list[str]) -> f.Facts:
    """Read one report; see the module."""
    facts: f.Facts = {}
    paths: list[str] = []
    for line in lines:
        listed = _LISTED.match(line)
        if listed:
            _package(facts, listed.group(1), listed.group(2))
        elif f.gpu_line(facts, line.partition("GPU models and configuration:")[2] or line):
            continue
        elif re.match(r"\s*(?:/\S|[A-Za-z]:\\)", line):
            paths.append(line.strip())
        elif ":" in line:
            key, _, value = line.partition(":")
            if key.strip() == "cuDNN version" and re.match(r"\s*(?:/|[A-Za-z]:\\)", value):
                paths.append(value.strip())
            else:
                _fact(facts, key.strip(), value.strip())
    f.libraries(facts, paths)
    return facts


def _fact(facts: f.Facts, key: str, value: str) -> None:
    if key == "CUDA used to build PyTorch" and value == "None":
        # Here None is no gap: torch.version.cuda is None in a build without CUDA.
        f.absent(facts, "framework", "torch", "cuda")
        return
    if f.known(value) is None:
        return
    if key == "PyTorch version":
        f.framework(facts, "torch", value)
    elif key == "CUDA used to build PyTorch":
        f.put(facts, f.dotted(value), "framework", "torch", "cuda")
    elif key == "ROCM used to build PyTorch":
        f.put(facts, value.split(maxsplit=1)[0], "framework", "torch", "hip")
    elif key == "OS":
        f.operating_system(facts, value)
    elif key == "GCC version":
        f.put(facts, f.gcc_version(value), "compiler", "gcc")
    elif key == "Libc version":
        f.libc(facts, value)
    elif key == "Python version":
        f.python(facts, value)
    elif key == "Python platform":
        f.platform(facts, value)
    elif key == "CUDA runtime version":
        f.nvcc(facts, value)
    elif key == "Nvidia driver version":
        f.put(facts, f.dotted(value), "driver", "version")
    elif key == "NCCL version":
        f.put(facts, f.dotted(value), "framework", "torch", "nccl")
    elif key == "cuDNN version":
        version = f.cudnn_number(value) or f.dotted(value)
        if version:
            facts.setdefault("library", []).append({"name": "cudnn", "version": version})
    elif key == "Architecture":
        f.arch(facts, value)
    elif key == "Model name":
        f.put(facts, value, "host", "cpu")
    elif key == "Flags":
        f.put(facts, f.cpu_level(value), "host", "cpu_level")
    elif key in ("vLLM Version", "vLLM version", "ScaleLLM version"):
        f.framework(facts, key.split(maxsplit=1)[0].lower(), value)


def _package(facts: f.Facts, manager: str, text: str) -> None:
    if manager == "conda":
        conda_row(facts, text.split())
    elif not requirement(facts, text):
        old = re.match(r"([\w.-]{1,100}) \(([\w.+!-]{1,100})\)", text)
        if old:
            f.pip_package(facts, old.group(1), old.group(2))
