"""Recognises known error texts: which rows of errors.toml a line of a log matches, and what they point to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from envlock.matrix.loader import Matrix, Row

LINE_LIMIT = 4000
"""Characters of a line that are looked at: known texts are short, and logs are hostile."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ESCAPED = re.compile(r"\\([.()])")


class Match(NamedTuple):
    """One known text in one line."""

    row: Row
    groups: Mapping[str, str]
    """What the line names: module, soname, library, path, version, symbol; only those that it does name."""
    addresses: tuple[str, ...]
    """The row's addresses with the line's own names in them, the likeliest first."""
    start: int = 0
    """Where in the line it begins."""


class _Same:
    """Rows as a key of the cache, equal only to themselves: mappings have no hash."""

    __slots__ = ("rows",)

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.rows is other.rows

    def __hash__(self) -> int:
        return id(self.rows)


def match_line(matrix: Matrix, line: str) -> list[Match]:
    """Return the known texts that a line holds, in the order of the rows: the most telling first."""
    line = line[:LINE_LIMIT]
    matches = []
    for hints, row in _hinted(_Same(matrix.rows("errors", "error"))):
        # A literal that must occur spares nearly every line nearly every pattern; re keeps what it compiled.
        if any(hint in line for hint in hints):
            found = re.search(row["pattern"], line)
            if found:
                groups = {name: text for name, text in found.groupdict().items() if text}
                matches.append(Match(row, groups, _addresses(row, groups), found.start()))
    return matches


@lru_cache(maxsize=4)
def _hinted(same: _Same) -> tuple[tuple[tuple[str, ...], Row], ...]:
    """Pair every row with its literals, one of which has to occur; a plain pattern is its own."""
    return tuple((tuple(row.get("hint", _plain(row["pattern"])).split("|")), row) for row in same.rows)


def _plain(pattern: str) -> str:
    """Return the text of a pattern that is plain text but for escaped dots and brackets."""
    return _ESCAPED.sub(r"\1", pattern)


def _addresses(row: Row, groups: Mapping[str, str]) -> tuple[str, ...]:
    """Fill the placeholders of a row's addresses; an address that asks for what the line lacks is left out."""
    return tuple(
        _PLACEHOLDER.sub(lambda found: groups[found[1]], address)
        for address in row["addresses"]
        if all(name in groups for name in _PLACEHOLDER.findall(address))
    )
