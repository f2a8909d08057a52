"""What a diff comes to: typed changes, and causes with the reason for their place."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["version", "build", "origin", "digest", "value", "added", "removed"]
"""What changed; "added" and "removed" are seen from mine to theirs."""

SIZES = ("major", "minor", "patch", "build", "unknown")


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact that two manifests hold differently."""

    address: str
    kind: Kind
    size: str = ""
    """For a version: "major", "minor", "patch", "build"; "unknown" where it cannot be read."""
    before: Any = None
    """What mine holds, as a plain value; None where it holds nothing."""
    after: Any = None
    folded_under: str = ""
    """The address of the change that this one merely follows."""
    one_sided: bool = False
    """True where the other side is a pasted report that may simply not have said."""


class Unseen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact that one side could not see; never a difference."""

    address: str
    reason: str
    side: str = ""


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A difference, or a set of them, that may explain the failure."""

    address: str
    addresses: tuple[str, ...]
    proven: bool
    """True where reverting these differences on paper makes the finding go away."""
    why: str
    rule: str = ""
    before: Any = None
    after: Any = None
