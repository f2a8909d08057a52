"""The GPUs of a stack with what the matrix knows of them: capability, product line, architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.versions import series
from envlock.matrix.lookup import gpu_row

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Stack


class Device(NamedTuple):
    """One kind of GPU."""

    name: str | None
    capability: str | None
    """As the vendor writes it: "9.0"."""
    line: str | None
    """"data centre", "workstation", "geforce" or "jetson"; None where the matrix does not know the name."""
    label: str
    """What people call it: "NVIDIA H100 80GB HBM3 (sm_90)"."""


def devices(stack: Stack, matrix: Matrix) -> list[Device]:
    """Return the GPUs that the manifest names; a capability that it lacks comes from the matrix."""
    found = []
    for gpu in stack.gpus:
        row = _row(gpu.name, matrix) if gpu.name else None
        capability = gpu.compute_capability if series(gpu.compute_capability) else None
        capability = capability or (row["compute_capability"] if row else None)
        name = gpu.name or "GPU"
        label = f"{name} ({sm(capability)})" if capability else name
        found.append(Device(gpu.name, capability, row["line"] if row else None, label))
    return found


def sm(capability: str) -> str:
    """Return a compute capability as an architecture: "9.0" -> "sm_90"."""
    return "sm_" + capability.replace(".", "")


def _plain(name: str) -> str:
    """Reduce a GPU's name to what tells it apart: no vendor, no bus, no memory size."""
    name = re.sub(r"\b(nvidia|geforce|tesla|quadro|graphics|device|gpu)\b", " ", name.lower())
    name = re.sub(r"\b(rtx|gtx|gt)(?=\d)", r"\1 ", name)
    name = re.sub(r"(\d)(ti|super)\b", r"\1 \2", name)
    name = re.sub(r"\b(pcie|sxm\d?|nvl|hbm\d\w*|\d+\s*gb|laptop|max-q|generation|mig\b.*)\b", " ", name)
    return " ".join(re.split(r"[^a-z0-9]+", name)).strip()


@lru_cache(maxsize=256)
def _row(name: str, matrix: Matrix) -> Any:
    exact = gpu_row(matrix, name)
    if exact is not None:
        return exact
    plain = _plain(name)
    if not plain:
        return None
    # Several products may share a short name; only one that means a single capability tells anything.
    names = {row["name"]: row for row in matrix.rows("gpu", "gpu")}
    for fits in (lambda known: known == plain, lambda known: f" {plain} " in f" {known} "):
        alike = [row for known, row in names.items() if fits(_plain(known))]
        if alike:
            return alike[0] if len({row["compute_capability"] for row in alike}) == 1 else None
    return None


def capability_rows(device: Device, rows: Iterable[Any]) -> list[Any]:
    """Return the rows whose ``compute_capabilities`` hold a device's."""
    return [row for row in rows if device.capability and device.capability in row["compute_capabilities"]]
