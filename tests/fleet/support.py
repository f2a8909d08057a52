"""Fleets as a job would have them: one stack, each node with its own capture time, interfaces and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

NODE = """\
schema = "envlock/1"

[capture]
envlock = "0.1.0"
time = 2026-11-28T09:{minute:02}:{second:02}Z
source = "live"

[host]
kernel = "{kernel}"
arch = "x86_64"
memory_gib = {memory}
interfaces = ["eth0", "ib0", "veth{number:04x}"]

[driver]
version = "{driver}"
kernel_module = "{driver}"
flavor = "open"
cuda = "{driver_cuda}"

[[gpu]]
name = "{gpu}"
compute_capability = "{capability}"
memory_mib = 81559
count = {gpus}

[python]
version = "3.11.9"
implementation = "CPython"
abi = "cp311"

[[library]]
name = "nccl"
version = "{nccl}"
soname = "libnccl.so.2"
path = "/opt/venv/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2"
provider = "pip:nvidia-nccl-cu12"
cuda = "12"
used_by = ["torch"]

[framework.torch]
version = "{torch}"
cuda = "12.8"
nccl = "2.27.5"
source = "pip"

[package.pip]
numpy = {{ version = "{numpy}" }}
nvidia-nccl-cu12 = {{ version = "{nccl}" }}
torch = {{ version = "2.9.1" }}

[requires]
torch = ["nvidia-nccl-cu12==2.27.5"]

[environ]
CUDA_VISIBLE_DEVICES = "{devices}"
NCCL_SOCKET_IFNAME = "{ifname}"
{environ}"""

SOUND = {
    "kernel": "6.8.0-45-generic", "memory": 503, "driver": "580.95.05", "driver_cuda": "13.0",
    "gpu": "NVIDIA H100 80GB HBM3", "capability": "9.0", "gpus": 8, "nccl": "2.27.5", "torch": "2.9.1+cu128",
    "numpy": "2.3.1", "devices": "0,1,2,3,4,5,6,7", "ifname": "eth0", "environ": "",
}  # fmt: skip


def node(number: int, **facts: object) -> str:
    """Return a node's manifest; what is not stated is sound."""
    return NODE.format(
        **{**SOUND, "number": number, "minute": number // 60 % 60, "second": number % 60, **facts}
    )


def write(
    folder: Path, count: int, odd: Mapping[int, Mapping[str, object]] = {}, failed: Mapping[str, str] = {}
) -> Path:
    """Write a fleet of ``count`` nodes, some of them odd, and an index where some failed."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes: dict[str, dict[str, str]] = {}
    for number in range(1, count + 1):
        name = f"node{number:03}"
        (folder / f"{name}.toml").write_text(node(number, **odd.get(number, {})), encoding="utf-8")
        nodes[name] = {"file": f"{name}.toml"}
    nodes |= {name: {"failed": reason} for name, reason in failed.items()}
    if failed:
        index = {"schema": "envlock-fleet/1", "engine": "ssh", "nodes": nodes}
        (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


ODD: Mapping[int, Mapping[str, object]] = {
    5: {"environ": 'NCCL_IB_DISABLE = "1"\n'},
    6: {"ifname": "ens3"},
    9: {"gpus": 7},
    10: {"kernel": "5.15.0-91-generic"},
    11: {"kernel": "5.15.0-91-generic"},
    12: {"numpy": "1.26.4"},
    17: {"driver": "470.256.02", "driver_cuda": "11.4"},
    23: {"nccl": "2.28.9"},
}
"""One of each: what a cluster of 32 nodes may have wrong on a bad day."""

SILENT = {
    "node033": "no answer within 60 s",
    "node034": "no answer within 60 s",
    "node040": "Permission denied (publickey).",
}
POLICY = """
[lock]
ignore = ["package.pip.numpy"]

[lock.allow]
driver = ">=550"

[[lock.waiver]]
rule = "nodes-differ"
address = "host.kernel"
reason = "two nodes are upgraded next week"
until = 2100-01-01
"""
