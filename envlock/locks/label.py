"""The lock that travels in its image: the file baked in, and the labels that name it and its digest.

Labels are those of an image's configuration; OCI annotations of its manifest with the same keys count alike.
https://github.com/opencontainers/image-spec/blob/main/annotations.md
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from envlock.errors import EnvlockError
from envlock.manifest.read import SIZE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envlock.probe.root import Root

BAKED = "/etc/envlock/env.toml"
"""Where the lock lies in an image."""

DIGEST_LABEL = "envlock.lock.digest"
"""sha256 of the lock file's bytes, as "sha256:<64 hex digits>" (what `sha256sum` prints)."""
PATH_LABEL = "envlock.lock.path"


class LabelError(EnvlockError):
    """An image without a lock in it, or one whose label and lock are not of each other."""


class Baked(NamedTuple):
    """A lock as it was found in an image or folder."""

    text: str
    labelled: bool
    """True where a label or annotation holds its digest."""


def digest_of(content: bytes) -> str:
    """Return the digest of a lock file's bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def labels(content: bytes) -> dict[str, str]:
    """Return the labels for an image that has this lock file at BAKED."""
    return {DIGEST_LABEL: digest_of(content), PATH_LABEL: BAKED}


def read_baked(root: Root, name: str) -> Baked:
    """Return the lock that an image or folder carries; ``name`` is what errors call it. Raises LabelError."""
    try:
        content = root.read(BAKED, SIZE_LIMIT)
    except FileNotFoundError:
        raise LabelError(
            f"no lock was named, and {name} carries none at {BAKED}: name the lock, or bake it in as "
            "`envlock label env.toml` shows"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error).removeprefix(f"{BAKED}: ")
        raise LabelError(f"cannot read {BAKED} of {name}: {reason}; name the lock to verify with") from None
    labelled = _hold_to_labels(content, root, name)
    try:
        return Baked(content.decode("utf-8-sig"), labelled)
    except UnicodeDecodeError:
        raise LabelError(f"{BAKED} of {name} is not UTF-8 text, so it is no lock") from None


def _hold_to_labels(content: bytes, root: Root, name: str) -> bool:
    """Raise LabelError where a label belongs to another lock; tell whether there is one."""
    config = getattr(root, "config", None)
    if config is None:
        return False
    found = False
    tables: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("label", config.labels),
        ("annotation", config.annotations),
    )
    for kind, table in tables:
        stated = table.get(DIGEST_LABEL)
        if stated is None:
            continue
        found = True
        actual = digest_of(content)
        if stated.strip() != actual:
            raise LabelError(
                f"{name}: its {kind} {DIGEST_LABEL} says {stated.strip()[:80]!r}, but {BAKED} in it has {actual}: "
                "the lock was changed after it was labelled, or the label is of another image; build it "
                "anew with what `envlock label` prints"
            )
    return found
