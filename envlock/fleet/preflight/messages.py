"""What ranks tell each other: who is there, 32-byte digests, and only where they differ the sections."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first word of every rank."""

    envlock: str
    """The version that runs there: other versions may see and write down other facts."""
    node: str
    place: bytes
    """Ranks with equal bytes see the same stack."""


class Digests(msgspec.Struct, frozen=True, tag="digests"):
    """An observer's stack: 32 bytes a section."""

    sections: dict[str, bytes]


class Sections(msgspec.Struct, frozen=True, tag="sections"):
    """The sections that were asked for and that this stack has, and what it could not observe."""

    sections: dict[str, Any]
    unobserved: dict[str, str]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A rank that could not do its part."""

    reason: str


class Observers(msgspec.Struct, frozen=True, tag="observers"):
    """To all ranks: these capture, each for all ranks that see the same as it does."""

    ranks: tuple[int, ...]


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """To all ranks: these observers send these sections."""

    sections: dict[int, tuple[str, ...]]


class Verdict(msgspec.Struct, frozen=True, tag="verdict"):
    """To all ranks, the last word: the same on each of them."""

    verdict: Literal["fine", "problem", "unknown"]
    """"unknown" where the stacks could not be compared."""
    message: str
    """The explanation, several lines; empty where the verdict is "fine"."""
    observers: tuple[int, ...] = ()
    """Ranks that captured, one for each view of a machine."""


FromRank = Hello | Digests | Sections | Failed
FromFirst = Observers | Wanted | Verdict

from_rank = msgspec.json.Decoder(FromRank)
from_first = msgspec.json.Decoder(FromFirst)
encode = msgspec.json.encode
