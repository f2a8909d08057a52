"""What must be the same on all ranks of one job, as a manifest without the rest, and its digests.

Left out is what may differ between the processes and nodes of a healthy job: the time, sizes of memory, the
processor's model, names of network interfaces, how many GPUs a node has and which of them a rank sees,
affinity, folders for caches and logs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from envlock.manifest.model import Capture, Gpu, Lock, Manifest, to_plain

MAY_DIFFER = re.compile(
    r"VISIBLE_DEVICES$"  # which GPUs a rank sees
    r"|(?:^|_)(?:LANG|LC_ALL|LC_CTYPE|TZ|TMPDIR)$"
    r"|_(?:SOCKET_IFNAME|IB_HCA|NET_DEVICES|IFNAME|IFACE|NIC)$"  # interfaces are named by each node's kernel
    r"|_(?:AFFINITY|PLACES|CPU_LIST|PROC_BIND)$"  # which cores a rank runs on
    r"|_(?:HOME|CACHE|CACHE_DIR|CACHE_PATH|LOG_DIR|DUMP_FILE|DUMP_DIR|DEBUG_FILE|PIPE_DIRECTORY|LOG_DIRECTORY)$"
    r"|^NCCL_DEBUG"  # often set on one rank alone
)
"""Variables that a healthy job may set differently from rank to rank or from node to node."""

_KEPT = re.compile(r"^(?:CUDA|MPI|NCCL|HPCX|PYTHON)_?HOME$")
"""Not a folder for files that come and go, but where the stack itself lies."""


def must_agree(manifest: Manifest) -> Manifest:
    """Return the manifest without what may differ between the ranks of a healthy job."""
    environ = {
        name: value for name, value in manifest.environ.items()
        if not MAY_DIFFER.search(name.upper()) or _KEPT.match(name.upper())
    }  # fmt: skip
    replace = msgspec.structs.replace
    return replace(
        manifest,
        capture=Capture(source=manifest.capture.source, unobserved=manifest.capture.unobserved),
        digest={},
        host=replace(manifest.host, cpu=None, memory_gib=None, shm_gib=None, interfaces=None),
        gpu=_kinds(manifest.gpu),
        container=replace(manifest.container, visible_devices=None),
        conda={},
        environ=environ,
        lock=Lock(),
    )


def _kinds(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Return each kind of GPU once."""
    kinds = {msgspec.structs.replace(gpu, count=None) for gpu in gpus}
    return tuple(sorted(kinds, key=msgspec.json.encode))


def sections(manifest: Manifest) -> dict[str, Any]:
    """Return the sections of a manifest as plain values, without how they were captured."""
    plain = to_plain(manifest)
    return {name: value for name, value in plain.items() if name not in ("schema", "capture")}


def digests(plain: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the 32-byte SHA-256 of each section's canonical JSON."""
    return {
        name: hashlib.sha256(msgspec.json.encode(value, order="sorted")).digest()
        for name, value in plain.items()
    }
