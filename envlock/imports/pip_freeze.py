"""pip freeze, uv pip freeze and pinned requirements: one PEP 508 requirement a line.

What a requirement only bounds (numpy>=1.20) says nothing of what is installed and is passed over.
"""

from __future__ import annotations

import re

from envlock.imports import facts as f
from envlock.imports.text import Block

_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:\[[\w ,.-]{0,200}\])?\s{0,4}===?\s{0,4}([\w.+!-]{1,100})(?=\s|;|#|\\|,|\Z)"
)
_DIRECT = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:\[[\w ,.-]{0,200}\])?\s{0,4}@\s{0,4}((?:[a-z+]{2,12}:|/)\S{1,2000})"
)
_EDITABLE = re.compile(r"(?:-e|--editable)\s{1,4}(\S{1,2000})")
_EDITABLE_NOTE = re.compile(
    r"# Editable .{0,100}\(([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:==([\w.+!-]{1,100}))?\)"
)
_OPTION = re.compile(r"(?:#|--?[a-z-]{1,40}\b|\Z)")
_WHEEL = re.compile(
    r"([A-Za-z0-9][\w.]{0,99})-([0-9][\w.+!]{0,60})(?:-[\w.]{1,60}){0,4}\.(?:whl|tar\.gz|tar\.bz2|zip)\Z"
)


def find(block: Block, start: int) -> int:
    """Start at a pin, a direct or an editable requirement; go on over comments and pip's options."""
    lines = block.lines
    if not _begins(lines[start]):
        return start
    end = start + 1
    for at in range(start + 1, len(lines)):
        if _begins(lines[at]):
            end = at + 1
        elif not _OPTION.match(lines[at]):
            break
    return end


def parse(lines: list[str]) -> f.Facts:
    """Read a run of requirements; see the module."""
    facts: f.Facts = {}
    for line in lines:
        requirement(facts, line)
    return facts


def requirement(facts: f.Facts, line: str) -> bool:
    """Record one requirement; tells whether the line is one that says what is installed."""
    line = line.strip()
    pinned = _PIN.match(line)
    if pinned:
        f.pip_package(facts, pinned.group(1), pinned.group(2))
        return True
    direct = _DIRECT.match(line)
    if direct:
        name, url = direct.groups()
        f.pip_package(facts, name, file_version(url), source=remote(url))
        return True
    note = _EDITABLE_NOTE.match(line)
    if note:
        f.pip_package(facts, note.group(1), note.group(2), editable=True)
        return True
    editable = _EDITABLE.match(line)
    if editable:
        url = editable.group(1)
        egg = re.search(r"[#&]egg=([A-Za-z0-9][\w.-]{0,99})", url)
        if egg:
            f.pip_package(facts, egg.group(1), source=remote(url), editable=True)
        return True
    return False


def remote(url: str) -> str | None:
    """Return a URL without its fragment, or None for a path: that names a machine's folders, no package."""
    url = url.partition("#")[0]
    return url if re.match(r"(?:[a-z]{2,4}\+)?(?:https?|ssh|git)://", url) else None


def file_version(url: str) -> str | None:
    """Return the version in a wheel's or source archive's file name (PEP 427, PEP 625)."""
    from urllib.parse import unquote

    found = _WHEEL.match(unquote(url.partition("#")[0].partition("?")[0]).rpartition("/")[2])
    return found.group(2) if found else None


def _begins(line: str) -> bool:
    if "=" not in line and "@" not in line and not line.startswith(("-e", "#")):
        return False
    pinned = _PIN.match(line)
    if pinned:
        # The rest may be a marker, hashes, a comment or a further bound, not a sentence.
        rest = line[pinned.end() :].strip()
        return not rest or rest[0] in ";#\\,-" or rest.startswith("via ")
    return bool(_DIRECT.match(line) or _EDITABLE_NOTE.match(line) or _EDITABLE.match(line))
