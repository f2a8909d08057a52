"""Digests: sha256 over the canonical form of sections, so that equal stacks can be told without a diff.

The canonical form is JSON in UTF-8 with sorted keys and no white space, over the values that the
manifest holds and nothing else; lists keep the manifest's order, which is canonical itself.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from envlock.manifest.model import IMAGE_SECTIONS, MACHINE_SECTIONS, Manifest, to_plain

DIGESTS = {"image": IMAGE_SECTIONS, "machine": MACHINE_SECTIONS, "package": ("package",)}
"""Which sections each digest covers."""


def digests(manifest: Manifest) -> dict[str, str]:
    """Return "sha256:..." of the image's facts, the machine's facts and the packages."""
    plain = to_plain(manifest)
    return {
        name: _digest({key: plain[key] for key in keys if key in plain}) for name, keys in DIGESTS.items()
    }


def _digest(value: Any) -> str:
    canonical = msgspec.json.encode(value, order="sorted")
    return "sha256:" + hashlib.sha256(canonical).hexdigest()
