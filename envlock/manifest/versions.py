"""Versions as people write them: PEP 440 where it fits, plain numbers where it does not, None otherwise."""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_NUMBERS = re.compile(r"v?(\d+(?:\.\d+)*)", re.ASCII)


@lru_cache(maxsize=8192)
def version(text: str | None) -> Version | None:
    """Parse a version; a vendor's spelling ("29Aug2024_update2") gives None, "12.4.1-1" its PEP 440 reading.

    Distribution spellings that PEP 440 refuses are read by their leading numbers where they have at
    least two ("9.1.0.70-1ubuntu2" is 9.1.0.70).
    """
    if not text or len(text) > 200:
        return None
    try:
        return Version(text)
    except InvalidVersion:
        found = re.match(r"(?:\d+:)?v?(\d+(?:\.\d+)+)(?![A-Za-z]|\.?\d)", text, re.ASCII)
        return Version(found.group(1)) if found else None


@lru_cache(maxsize=8192)
def release(text: str | None) -> tuple[int, ...]:
    """Return the leading numbers of a version ("570.86.15" -> (570, 86, 15)); empty where there are none."""
    found = _NUMBERS.match(text or "")
    return tuple(int(number[:18]) for number in found.group(1).split(".")) if found else ()


def major(text: str | None) -> int | None:
    """Return the first number of a version."""
    numbers = release(text)
    return numbers[0] if numbers else None


def series(text: str | None, parts: int = 2) -> tuple[int, ...]:
    """Return the first numbers of a version, filled up with zeros: series("12") is (12, 0)."""
    numbers = release(text)
    return (*numbers, *(0,) * parts)[:parts] if numbers else ()


def dotted(numbers: tuple[int, ...]) -> str:
    """Return numbers as a version: (12, 4) -> "12.4"."""
    return ".".join(str(number) for number in numbers)


@lru_cache(maxsize=4096)
def specifier(text: str) -> SpecifierSet | None:
    """Parse a PEP 440 specifier (">=1.2,<2"); None where it is not one."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return None


@lru_cache(maxsize=1 << 16)
def matches(text: str | None, wanted: str) -> bool | None:
    """Tell whether a version lies in a PEP 440 specifier, pre-releases counted; None where it can't be told.

    A local label ("+cu124") is left out of the comparison unless the specifier names one.
    """
    found = version(text)
    bounds = specifier(wanted)
    if found is None or bounds is None:
        return None
    if found.local and "+" not in wanted:
        found = Version(found.public)
    return bounds.contains(found, prereleases=True)


def size_of_change(before: str | None, after: str | None) -> str:
    """Say how far apart two versions are: "major", "minor", "patch" or "build"; "unknown" if unreadable."""
    if before == after:
        return "build"
    one, two = version(before), version(after)
    if one is None or two is None:
        return "unknown"
    if one.epoch != two.epoch or one.major != two.major:
        return "major"
    if one.minor != two.minor:
        return "minor"
    if one.release[2:] != two.release[2:] or one.pre != two.pre:
        return "patch"
    return "build"
