"""``envlock matrix``: the compatibility data, shown and searched."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from envlock.cli import options

if TYPE_CHECKING:
    from envlock.matrix.loader import Hit, Matrix

WIDTH_OF_FILES = 120
"""Columns where the result does not go to a terminal."""


@click.command("matrix")
@click.argument("subject", required=False)
@click.argument("words", nargs=-1)
@options.JSON
@options.OUTPUT
@options.MATRIX
def command(
    subject: str | None, words: tuple[str, ...], as_json: bool, output: str | None, matrix: tuple[str, ...]
) -> None:
    """Show and search the compatibility data: what is known, from which source, read on which day.

    Without arguments: which subjects there are. SUBJECT (cuda, torch ...) or SUBJECT.KIND (torch.build) shows
    its rows; words narrow them to the rows that hold all of them. Anything else is searched in all subjects.
    """
    import sys

    from envlock.cli.output import emit
    from envlock.matrix.loader import load
    from envlock.reports import matrix_text

    rows = load(matrix)
    hits = _hits(rows, subject, words)
    added = _added(hits, load()) if matrix else []
    if as_json:
        emit(matrix_text.as_json(hits, added, rows.date()), output)
        return
    if subject is None:
        emit(matrix_text.overview(rows, len(added), options.style()), output)
        return
    if not hits:
        wanted = " ".join((subject, *words))
        emit(f"the matrix has no row with {wanted!r}; it has {', '.join(rows.subjects())}\n", output)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not output else WIDTH_OF_FILES
    emit(matrix_text.rows(hits, added, rows.date(), options.style(), max(width, 60)), output)


def _hits(matrix: Matrix, subject: str | None, words: tuple[str, ...]) -> list[Hit]:
    """Return the rows of a subject or kind, or of all, that hold every word."""
    from envlock.matrix.loader import Hit

    name, _, kind = (subject or "").partition(".")
    if name in matrix.subjects() and (not kind or kind in matrix.kinds(name)):
        kinds = [kind] if kind else matrix.kinds(name)
        found = [Hit(name, each, row) for each in kinds for row in matrix.rows(name, each)]
    else:
        found = list(matrix.search(""))
        words = (subject or "", *words)
    for word in words:
        holding = {id(hit.row) for hit in matrix.search(word) if _as_a_word(word, hit)}
        found = [hit for hit in found if id(hit.row) in holding]
    return found


def _as_a_word(word: str, hit: Hit) -> bool:
    """Tell whether a version stands for itself in a row: 2.9 is in "2.9.1" and in "<2.9", not in "12.9" or "2.90"."""
    if not word[:1].isdigit() or "." not in word:
        return True
    number = re.compile(rf"(?<![\d.]){re.escape(word)}(?!\d)")
    return any(number.search(text) for text in _texts(hit.row))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (Mapping, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)
    else:
        yield str(value)


def _added(hits: list[Hit], ours: Matrix) -> list[int]:
    """Return the places of the rows that envlock's own matrix does not have just so."""
    return [
        place
        for place, hit in enumerate(hits)
        if hit.kind not in ours.kinds(hit.subject) or hit.row not in ours.rows(hit.subject, hit.kind)
    ]
