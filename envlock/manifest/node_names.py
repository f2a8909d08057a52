"""Node names folded as Slurm's host lists are: node001, node002, node040 are node[001-002,040].

Source: scontrol(1), ``show hostlist``. Only the last number of a name is folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_NUMBERED = re.compile(r"(.*?)([0-9]{1,15})([^0-9]*)\Z", re.DOTALL)

PARTS_SHOWN = 6
"""Ranges that a sentence names at most; the nodes beyond are counted."""


def fold(names: Iterable[str], parts: int | None = None) -> str:
    """Return the names as one host list, in order; beyond ``parts`` ranges the rest is counted."""
    runs: list[tuple[str, str, list[tuple[str, str]]]] = []
    left = 0
    for count, (prefix, suffix, first, last, size) in enumerate(_runs(names), 1):
        if parts is not None and count > parts:
            left += size
        elif runs and first and runs[-1][:2] == (prefix, suffix) and runs[-1][2]:
            runs[-1][2].append((first, last))
        else:
            runs.append((prefix, suffix, [(first, last)] if first else []))
    said = ",".join(_text(*run) for run in runs)
    return f"{said} and {left:,} more" if left else said


def _text(prefix: str, suffix: str, ranges: list[tuple[str, str]]) -> str:
    if not ranges:
        return prefix
    inner = ",".join(first if first == last else f"{first}-{last}" for first, last in ranges)
    alone = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
    return f"{prefix}{inner}{suffix}" if alone else f"{prefix}[{inner}]{suffix}"


def _runs(names: Iterable[str]) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield (prefix, suffix, first number, last number, how many); a name without a number is its own prefix."""
    numbered: dict[tuple[str, str, int], set[int]] = {}
    plain = set()
    for name in names:
        found = _NUMBERED.match(name)
        if found is None:
            plain.add(name)
            continue
        digits = found[2]
        # A leading zero tells how wide all numbers of that width are: 08, 09, 10. Without one, 9 and 10 are neighbours.
        numbered.setdefault((found[1], found[3], len(digits)), set()).add(int(digits))
    keyed: list[tuple[str, str, str, str, int]] = [(name, "", "", "", 1) for name in plain]
    for (prefix, suffix, width), values in numbered.items():
        keyed += [
            (prefix, suffix, str(first).zfill(width), str(last).zfill(width), last - first + 1)
            for first, last in _ranges(sorted(values))
        ]
    yield from _joined(sorted(keyed, key=lambda run: (run[0], run[1], len(run[2]), run[2])))


def _ranges(values: list[int]) -> Iterator[tuple[int, int]]:
    start = previous = values[0]
    for value in values[1:]:
        if value != previous + 1:
            yield start, previous
            start = value
        previous = value
    yield start, previous


def _joined(runs: list[tuple[str, str, str, str, int]]) -> Iterator[tuple[str, str, str, str, int]]:
    """Join a range that ends in 9, 99 ... with the one that starts at 10, 100 ..., where no zero leads."""
    held: tuple[str, str, str, str, int] | None = None
    for run in runs:
        if held and held[2] and run[2] and held[:2] == run[:2]:
            wider = len(run[2]) == len(held[3]) + 1 and "0" not in (held[2][0], run[2][0])
            if wider and int(run[2]) == int(held[3]) + 1:
                held = (*held[:3], run[3], held[4] + run[4])
                continue
        if held:
            yield held
        held = run
    if held:
        yield held
