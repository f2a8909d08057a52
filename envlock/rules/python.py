"""Rules about the interpreter itself."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING

from envlock.manifest.versions import release
from envlock.rules.engine import rule
from envlock.rules.model import Evidence, Finding, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]


@rule("python-end-of-life", layer="python", severity="note")
def python_end_of_life(stack: Stack, matrix: Matrix) -> Outcome:
    """This CPython gets no more security fixes.

    Shows itself slowly: frameworks and their dependencies stop building for it, and pip settles for their last
    releases without saying so.

    Fix: the next Python that all packages of the stack are built for.

    Source: PEP 602 and the release schedule PEP of each version; devguide.python.org/versions.
    """
    python = stack.manifest.python
    numbers = release(python.version)[:2]
    if len(numbers) < 2 or python.implementation not in (None, "CPython"):
        return
    if stack.partial and stack.manifest.capture.time is None:
        # A paste may be years old: its day is not known.
        return
    row = next((row for row in matrix.rows("python", "release") if release(row["version"]) == numbers), None)
    if row is None or row["end_of_life"] > _today(stack):
        return
    yield Finding(
        subject="python.version",
        message=f"Python {python.version} gets no security fixes since {row['end_of_life']}",
        evidence=(Evidence("python.version", python.version),),
        source=row["source"],
        breaks=False,
        rank=9,
    )


def _today(stack: Stack) -> datetime.date:
    """Return the day of the capture, so that one manifest has one verdict; else today."""
    captured = stack.manifest.capture.time
    return captured.date() if captured else datetime.date.today()
