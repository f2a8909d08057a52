"""Compares two manifests: what differs, what is wrong on either side, and which difference is to blame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from envlock.compare.causes import Suspect, find_causes, rank_unexplained
from envlock.compare.changes import changes as find_changes
from envlock.compare.changes import unseen
from envlock.compare.folding import fold
from envlock.compare.model import Cause, Change, Unseen
from envlock.manifest.model import Manifest
from envlock.rules.model import Finding, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix

Side = Literal["mine", "theirs"]
_WEIGHT = {"error": 100, "warning": 10, "note": 1}


class SidedFinding(msgspec.Struct, frozen=True):
    """A finding, and on which side it stands."""

    side: Side
    finding: Finding
    shared: bool
    """True where the other side has the same finding: then it explains no difference."""


class Difference(msgspec.Struct, frozen=True):
    """What a diff comes to."""

    changes: tuple[Change, ...]
    causes: tuple[Cause, ...]
    """Best first."""
    findings: tuple[SidedFinding, ...]
    unobserved: tuple[Unseen, ...]
    unknown: tuple[Unknown, ...]
    bad: Side | None
    """The side that fails: as stated, or as the findings say; None where that is not known."""

    @property
    def verdict(self) -> str:
        """Return "fine" where nothing differs, else "problem"."""
        return "problem" if self.changes else "fine"


def compare(
    mine: Manifest,
    theirs: Manifest,
    matrix: Matrix,
    *,
    bad: str | None = None,
    log: str | Iterable[str] | None = None,
) -> Difference:
    """Compare two manifests; ``bad`` states which side fails, ``log`` holds its error text (lines or text)."""
    from envlock.rules.engine import run

    found = fold(find_changes(mine, theirs), mine, theirs)
    results = {"mine": run(mine, matrix, try_fixes=False), "theirs": run(theirs, matrix, try_fixes=False)}
    known = {side: {finding.identity for finding in result.findings} for side, result in results.items()}
    sided: list[SidedFinding] = []
    for side, other in (("mine", "theirs"), ("theirs", "mine")):
        for finding in results[side].findings:
            shared = finding.identity in known[other]
            sided.append(SidedFinding(side, finding, shared))  # type: ignore[arg-type]
    failing = _failing(sided, bad)
    symptoms = None
    if log is not None:
        from envlock.compare.symptoms import read_symptoms

        lines = log.splitlines() if isinstance(log, str) else log
        symptoms = read_symptoms(lines, found, matrix)
    suspects: list[Suspect] = []
    for side, one in (("mine", mine), ("theirs", theirs)):
        if failing in (None, side):
            own = [
                each.finding
                for each in sided
                if each.side == side and not each.shared and each.finding.breaks
            ]
            suspects += find_causes(one, found, own, matrix, symptoms, flipped=side == "theirs")
    suspects += rank_unexplained(found, mine, theirs, symptoms, matrix)
    unknown = {(each.rule, each.needs): each for result in results.values() for each in result.unknown}
    return Difference(
        changes=tuple(found),
        causes=_ranked(suspects),
        findings=tuple(sided),
        unobserved=tuple(unseen(mine, theirs)),
        unknown=tuple(unknown.values()),
        bad=failing,
    )


def _failing(sided: Iterable[SidedFinding], bad: str | None) -> Side | None:
    """Return the side that fails: the one stated, else the one with the graver findings of its own."""
    if bad in ("mine", "theirs"):
        return bad  # type: ignore[return-value]
    weights = {"mine": 0, "theirs": 0}
    for each in sided:
        if not each.shared:
            weights[each.side] += _WEIGHT[each.finding.severity or "error"]
    if weights["mine"] == weights["theirs"]:
        return None
    return "mine" if weights["mine"] > weights["theirs"] else "theirs"


def _ranked(suspects: Iterable[Suspect]) -> tuple[Cause, ...]:
    """Order suspects by weight, each difference named once, by its best reason."""
    seen: set[str] = set()
    causes = []
    for suspect in sorted(suspects, key=lambda each: (-each.weight, each.cause.address)):
        if suspect.cause.address not in seen:
            seen.add(suspect.cause.address)
            causes.append(suspect.cause)
    return tuple(causes)
