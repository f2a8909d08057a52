"""env | grep NCCL: variables that change how the stack behaves; and those that NCCL's log names.

Only variables of the stack itself are taken: an environment is full of names, hosts and secrets.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block
from envlock.probe.redact import MASK, mask_value

_ASSIGNMENT = re.compile(r"(?:export |declare -x |ENV )?([A-Za-z_][A-Za-z0-9_]{0,100})=(.{0,8192})\Z")
_OURS = re.compile(
    r"(?:NCCL|CUDA|CUDNN|CUBLAS|NVIDIA|NVSHMEM|TORCH|TORCHINDUCTOR|PYTORCH|XLA|JAX|TF|OMP|MKL|KMP|OPENBLAS|UCX|OMPI_MCA|FI|GLOO"
    r"|TRITON|VLLM|SGLANG|FLASHINFER|BNB|DS|MAX)_[A-Z0-9_]{1,80}\Z|(?:LD_LIBRARY_PATH|LD_PRELOAD|PYTHONPATH|PYTHONNOUSERSITE"
    r"|PYTHONHOME|CONDA_OVERRIDE_CUDA)\Z"
)
_THEIRS = re.compile(r"(?:HOST|HOSTNAME|HOST_IP|_IP|ADDR|ADDRESS|COMM_ID|UUID|USER|HOSTS)\Z")
_SPACED = re.compile(
    r"(?:NVIDIA_REQUIRE_\w{1,30}|XLA_FLAGS|TORCH_CUDA_ARCH_LIST|NVCC_APPEND_FLAGS|VLLM_NVCC_THREADS|JAX_\w{1,40})\Z"
)
_NCCL_VERSION = re.compile(r"\bNCCL version (\d{1,2}\.\d{1,3}(?:\.\d{1,3})?)(?:\+cuda(\d{1,2}\.\d{1,2}))?")
_NCCL_DRIVER = re.compile(r"\bcudaDriverVersion (\d{5})\b")
_NCCL_SET = re.compile(r"\b(NCCL_[A-Z0-9_]{1,60}) set by environment to (\S{1,500}?)\.?(?=[\s,]|\Z)")
_CONTAINER = {"NVIDIA_REQUIRE_CUDA": "require", "NVIDIA_VISIBLE_DEVICES": "visible_devices",
              "NVIDIA_DRIVER_CAPABILITIES": "driver_capabilities"}  # fmt: skip


def find(block: Block, start: int) -> int:
    """Start at an assignment to one of the stack's variables; go on over assignments."""
    lines = block.lines
    if "=" not in lines[start] or not _taken(lines[start]):
        return start
    end = start + 1
    while end < len(lines) and "=" in lines[end] and _ASSIGNMENT.match(lines[end]):
        end += 1
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read the assignments; what NVIDIA's container variables say belongs to the container as well."""
    facts: f.Facts = {}
    for line in lines:
        taken = _taken(line)
        if taken:
            variable(facts, *taken)
    return facts


def variable(facts: f.Facts, name: str, value: str) -> None:
    """Record one variable, secrets masked; an empty value is a fact."""
    value = mask_value(name, value)
    if value != MASK:
        facts.setdefault("environ", {}).setdefault(name, value)
        if name in _CONTAINER and value:
            f.put(facts, value, "container", _CONTAINER[name])


def find_nccl(block: Block, start: int) -> int:
    """Start at a line of NCCL's log that holds a fact; go on over its log."""
    lines = block.lines
    if not _nccl(lines[start]):
        return start
    end = start + 1
    while end < len(lines) and "NCCL" in lines[end]:
        end += 1
    return end


def parse_nccl(lines: list[str]) -> f.Facts:
    """Read NCCL's version, the driver's CUDA and the variables that NCCL obeyed; the prefix names the host."""
    facts: f.Facts = {}
    for line in (line[:2000] for line in lines):
        version, driver, setting = (
            _NCCL_VERSION.search(line),
            _NCCL_DRIVER.search(line),
            _NCCL_SET.search(line),
        )
        if version and "library" not in facts:
            entry = {"name": "nccl", "version": version.group(1)}
            if version.group(2):
                entry["cuda"] = version.group(2)
            facts["library"] = [entry]
        if driver:
            f.put(facts, f.cuda_number(driver.group(1)), "driver", "cuda")
        if setting and not _THEIRS.search(setting.group(1)):
            variable(facts, setting.group(1), setting.group(2))
    return facts


def _taken(line: str) -> tuple[str, str] | None:
    found = _ASSIGNMENT.match(line)
    if not found or not _OURS.match(found.group(1)) or _THEIRS.search(found.group(1)):
        return None
    name, value = found.groups()
    quoted = re.match(r"([\"'])(.*)\1\s*\Z", value)
    if quoted:
        value = quoted.group(2)
    elif " " in value.strip() and not _SPACED.match(name):
        return None  # NAME=value program: a command line, whose end is not the value's
    # $LD_LIBRARY_PATH is what a script says, not what a process had.
    return None if "$" in value else (name, value.strip())


def _nccl(line: str) -> bool:
    if "NCCL" not in line:
        return False
    line = line[:2000]
    return bool(_NCCL_VERSION.search(line) or _NCCL_DRIVER.search(line) or _NCCL_SET.search(line))
