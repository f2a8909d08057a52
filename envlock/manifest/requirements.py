"""Requirements in the one spelling that a manifest holds: ``name[extra,...]specifier @ url``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*\(?([^@;)]*)\)?(?:\s*@\s*(\S+))?")


class Requirement(NamedTuple):
    """A requirement whose marker has been evaluated already."""

    name: str
    """Normalised (PEP 503)."""
    specifier: str
    """PEP 440; empty where any version will do."""
    extras: str = ""
    url: str = ""


@lru_cache(maxsize=16384)
def parse_requirement(line: str) -> Requirement | None:
    """Parse one line of ``[requires]``; None where it is not a requirement.

    A few lines of our own beside packaging's parser, because a check of 300 packages reads thousands of
    them and the manifest's spelling has no markers left.
    """
    found = _LINE.match(line.strip()[:1000])
    if not found:
        return None
    name = re.sub(r"[-_.]+", "-", found.group(1)).lower()
    return Requirement(name, found.group(3).replace(" ", ""), found.group(2) or "", found.group(4) or "")
