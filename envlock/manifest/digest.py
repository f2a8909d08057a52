"""Digests: sha256 over the canonical form of sections, so that equal stacks can be told without a diff.

The canonical form is JSON in UTF-8 with sorted keys and no white space, over the values that the
manifest holds and nothing else; lists keep the manifest's order, which is canonical itself.
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from envlock.manifest.model import IMAGE_SECTIONS, MACHINE_SECTIONS, Manifest, to_sections

DIGESTS = {"image": IMAGE_SECTIONS, "machine": MACHINE_SECTIONS, "package": ("package",)}
"""Which sections each digest covers."""


def digests(manifest: Manifest) -> dict[str, str]:
    """Return "sha256:..." of the image's facts, the machine's facts and the packages."""
    plain = to_sections(manifest)
    return {
        name: digest_of({key: plain[key] for key in keys if key in plain}) for name, keys in DIGESTS.items()
    }


def digest_of(value: Any) -> str:
    """Return "sha256:..." of a plain value in its canonical form."""
    canonical = msgspec.json.encode(value, order="sorted")
    return f"sha256:{_sha256()(canonical).hexdigest()}"


def _sha256() -> Any:
    """Return the interpreter's own SHA-256, as the standard library's random does: hashlib loads OpenSSL first."""
    for module in ("_sha2", "_sha256", "hashlib"):  # CPython from 3.12 on, up to 3.11, every Python
        try:
            return importlib.import_module(module).sha256
        except (ImportError, AttributeError):
            continue
    raise ImportError("no SHA-256")
