"""The matrix for people and programs: an overview, rows as aligned tables or paragraphs, their sources and date."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from envlock.matrix.loader import Hit, Matrix, Row
from envlock.reports.json import SCHEMA, Report, encode
from envlock.reports.style import Style, safe

NARROWEST = 24
"""Characters that a column keeps when a table is made to fit; a table that then still does not is told row by row."""

ROWS_IN_FULL = 3
"""Rows up to which every column is told in full, with the source."""

SOURCES_SHOWN = 12
MARK = "+"
"""Before a row that a user's file added or changed."""

_APART = ("source", "read")


class ReportedRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the matrix and where it belongs."""

    subject: str
    kind: str
    row: dict[str, Any]
    added: bool = False
    """True where a user's file added or changed it."""


class MatrixReport(Report, frozen=True, omit_defaults=True):
    """The report's object with rows of the matrix in it."""

    date: str = ""
    """The newest day on which a source was read."""
    rows: tuple[ReportedRow, ...] = ()


def as_json(hits: Sequence[Hit], added: Iterable[int], day: date) -> str:
    """Render rows as JSON; ``added`` holds the places of those that a user's file brought."""
    ours = set(added)
    rows = tuple(
        ReportedRow(hit.subject, hit.kind, _plain(hit.row), place in ours) for place, hit in enumerate(hits)
    )
    return encode(MatrixReport(SCHEMA, "matrix", "fine", date=day.isoformat(), rows=rows))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


def overview(matrix: Matrix, added: int, style: Style) -> str:
    """Render what there is: subjects, their kinds of row, how many, and how fresh."""
    lines = []
    total = 0
    width = max(len(subject) for subject in matrix.subjects())
    for subject in matrix.subjects():
        rows = {kind: matrix.rows(subject, kind) for kind in matrix.kinds(subject)}
        count = sum(map(len, rows.values()))
        total += count
        days = [row["read"].isoformat() for some in rows.values() for row in some if "read" in row]
        kinds = ", ".join(f"{kind} {len(some)}" for kind, some in rows.items())
        lines.append(f"  {subject:<{width}}  {count:>4}  {max(days, default=''):<10}  {kinds}")
    head = f"{total} rows on {len(lines)} subjects; newest source read on {matrix.date().isoformat()}"
    mine = [f"{added} rows are added or changed by your files"] if added else []
    hint = "envlock matrix SUBJECT shows its rows, envlock matrix WORD ... searches all of them"
    return "\n".join([style.paint(head, "bold"), *mine, "", *lines, "", style.paint(hint, "dim")]) + "\n"


def rows(hits: Sequence[Hit], added: Iterable[int], day: date, style: Style, width: int) -> str:
    """Render rows, kind by kind: a table where it fits the width, else a paragraph a row; sources at the end."""
    ours = set(added)
    lines: list[str] = []
    kinds: dict[tuple[str, str], list[tuple[Row, bool]]] = {}
    for place, hit in enumerate(hits):
        kinds.setdefault((hit.subject, hit.kind), []).append((hit.row, place in ours))
    for (subject, kind), some in kinds.items():
        count = f"{len(some)} row{'' if len(some) == 1 else 's'}"
        lines += [style.paint(f"{subject}.{kind}", "bold") + f"  {count}"]
        if len(hits) <= ROWS_IN_FULL:
            for row, mine in some:
                lines += ["", *_in_full(row, mine, width)]
        else:
            lines += _table(some, width) or [
                line for row, mine in some for line in _paragraph(row, mine, style, width)
            ]
        lines.append("")
    if ours:
        lines += [f"{MARK} added or changed by your files", ""]
    if len(hits) > ROWS_IN_FULL:
        lines += [style.paint(line, "dim") for line in _sources(hits)]
        if any("…" in line for line in lines):
            hint = f"cut at …: words that leave {ROWS_IN_FULL} rows or fewer show them in full"
            lines.append(style.paint(hint, "dim"))
    lines.append(style.paint(f"sources read until {day.isoformat()}", "dim"))
    return "\n".join(lines) + "\n"


def _columns(some: Sequence[tuple[Row, bool]]) -> list[str]:
    return list(dict.fromkeys(name for row, _ in some for name in row if name not in _APART))


def _table(some: Sequence[tuple[Row, bool]], width: int) -> list[str]:
    """Return rows under the names of their columns; nothing where that is wider than the width allows."""
    names = _columns(some)
    cells = [[_cell(row.get(name)) for name in names] for row, _ in some]
    sizes = [max(len(name), *(len(line[at]) for line in cells)) for at, name in enumerate(names)]
    room = width - 2 - 2 * len(names)
    while sum(sizes) > room and max(sizes) > NARROWEST:
        sizes[sizes.index(max(sizes))] -= 1
    if sum(sizes) > room or any(len(name) > size for name, size in zip(names, sizes, strict=True)):
        return []
    marks = [MARK if mine else " " for _, mine in some]
    lines = [("  " + "  ".join(f"{name:<{size}}" for name, size in zip(names, sizes, strict=True))).rstrip()]
    for mark, line in zip(marks, cells, strict=True):
        told = "  ".join(f"{_clip(cell, size):<{size}}" for cell, size in zip(line, sizes, strict=True))
        lines.append(f"{mark} {told}".rstrip())
    return lines


def _paragraph(row: Row, mine: bool, style: Style, width: int) -> Iterator[str]:
    """Return a row as its first column and then the others by name, wrapped."""
    (_, first), *others = [(name, value) for name, value in row.items() if name not in _APART]
    text = "; ".join(f"{name} {_cell(value)}" for name, value in others)
    yield f"{MARK if mine else ' '} {style.paint(_cell(first), 'bold')}"
    yield from textwrap.wrap(
        text, width, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False
    )


def _in_full(row: Row, mine: bool, width: int) -> Iterator[str]:
    size = max(map(len, row))
    mark = MARK if mine else " "
    for name, value in row.items():
        wrapped = textwrap.wrap(_cell(value), max(width - size - 4, 20), break_on_hyphens=False) or [""]
        for place, line in enumerate(wrapped):
            yield f"{mark} {name if place == 0 else '':<{size}}  {line}"
            mark = " "


def _sources(hits: Sequence[Hit]) -> list[str]:
    counts: dict[str, int] = {}
    for hit in hits:
        counts[hit.row["source"]] = counts.get(hit.row["source"], 0) + 1
    ordered = sorted(counts, key=lambda source: -counts[source])
    lines = [f"source: {safe(source)}" for source in ordered[:SOURCES_SHOWN]]
    left = len(ordered) - len(lines)
    return [*lines, f"and {left} more sources (--json has that of each row)"] if left else lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(each)}" for key, each in value.items())
    if isinstance(value, tuple):
        return " ".join(map(_cell, value))
    return safe(str(value))


def _clip(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
