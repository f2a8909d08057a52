"""SGLang's check_env and OpenMMLab's collect_env (mmcv, mmengine, mmdet): one `name: value` a line.

Source of the formats: sgl-project/sglang python/sglang/check_env.py, open-mmlab/mmengine
mmengine/utils/dl_utils/collect_env.py. SGLang's "CUDA Driver Version" is the driver's own.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports import torch_config
from envlock.imports.text import Block

_ANCHOR = re.compile(
    r"(?:CUDA available|sys\.platform|CUDA Driver Version|GPU [\d,]{1,200} Compute Capability|CUDA_HOME|NVCC"
    r"|PyTorch|PyTorch compiling details|MMCV|MMCV Compiler|MMCV CUDA Compiler|MMEngine|sgl_kernel"
    r"|NVIDIA Topology): ?"
)
_PYTHON = re.compile(r"Python: \d\.\d+\.\d+")
_CAPABILITY = re.compile(r"GPU ([\d,]{1,200}) Compute Capability: (\d{1,2}\.\d)")
_PACKAGE = re.compile(r"([A-Za-z][\w.-]{0,60}): (\d[\w.+!-]{0,99})(?:\+[0-9a-f]{7,40})?\Z")
NAMES = {"pil": "pillow", "zmq": "pyzmq", "multipart": "python-multipart", "torchvision": "torchvision", "mmdetection": "mmdet",
         "mmsegmentation": "mmsegmentation", "mmpose": "mmpose", "mmdetection3d": "mmdet3d"}  # fmt: skip
"""Import and display names whose project is called otherwise; cv2 may come from four projects, so it is none."""
_NOT_PACKAGES = {
    "opencv",
    "cv2",
    "gcc",
    "msvc",
    "ulimit",
    "python",
    "gpu",
    "mmcv-compiler",
    "numpy-random-seed",
}


def find(block: Block, start: int) -> int:
    """Start at a line that only these reports have; what follows belongs to it until another report."""
    line = block.lines[start]
    if _ANCHOR.match(line) and not line.startswith("PyTorch: built"):
        return start + 1
    following = block.lines[start + 1 : start + 2]
    return (
        start + 1
        if _PYTHON.match(line) and following and following[0].startswith("CUDA available: ")
        else start
    )


def parse(lines: list[str]) -> f.Facts:
    """Read one report; see the module."""
    facts: f.Facts = {}
    cards: list[tuple[str, str]] = []
    capability: dict[str, str] = {}
    values: dict[str, str] = {}
    for line in lines:
        measured = _CAPABILITY.match(line)
        card = re.match(r"GPU ([\d,]{1,200}): (\S.{0,120})", line)
        if measured:
            capability[measured.group(1)] = measured.group(2)
        elif card:
            cards.append((card.group(1), card.group(2)))
        elif line.startswith("  - "):
            continue
        else:
            key, colon, value = line.partition(":")
            if colon:
                values.setdefault(key.strip(), value.strip())
                _package(facts, line)
    for numbers, name in cards:
        f.gpu(facts, name, numbers.strip(",").count(",") + 1, compute_capability=capability.get(numbers))
    _values(facts, values)
    if any(line.startswith("  - ") for line in lines):
        _adopt(facts, torch_config.parse(lines))
    return facts


def _values(facts: f.Facts, values: dict[str, str]) -> None:
    f.python(facts, values.get("Python", ""))
    f.framework(facts, "torch", values.get("PyTorch"))
    f.put(facts, f.dotted(values.get("CUDA Driver Version", "")), "driver", "version")
    f.put(facts, f.gcc_version(values.get("GCC", "")), "compiler", "gcc")
    f.nvcc(facts, values.get("NVCC", ""), f.known(values.get("CUDA_HOME")))
    system = {"linux": "linux", "win32": "windows", "darwin": "darwin"}.get(values.get("sys.platform", ""))
    f.put(facts, system, "host", "platform")
    f.framework(facts, "mmcv", values.get("MMCV"))
    if "framework" in facts and "mmcv" in facts["framework"]:
        f.put(facts, f.dotted(values.get("MMCV CUDA Compiler", "")), "framework", "mmcv", "cuda")


def _package(facts: f.Facts, line: str) -> None:
    found = _PACKAGE.match(line)
    if not found:
        return
    name = f.normalise(found.group(1))
    if name not in _NOT_PACKAGES and name not in ("pytorch", "mmcv", "nvcc"):
        # OpenMMLab's own carry the commit behind a plus.
        version = found.group(2).partition("+")[0] if name.startswith("mm") else found.group(2)
        f.pip_package(facts, NAMES.get(name, name), version)


def _adopt(facts: f.Facts, more: f.Facts) -> None:
    for name, table in more.get("framework", {}).items():
        for key, value in table.items():
            f.put(facts, value, "framework", name, key)
