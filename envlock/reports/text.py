"""Results as text for a terminal: the sentence first, the evidence under it, the fix last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envlock.reports.style import SEVERITY_COLOURS, Style, safe, show
from envlock.rules.model import SEVERITIES, Finding, Result, Unknown

if TYPE_CHECKING:
    from envlock.compare.engine import Difference
    from envlock.compare.model import Cause, Change
    from envlock.locks.policy import Verification

CAUSES_SHOWN = 3
CHANGES_SHOWN = 25
DRIFT_SHOWN = 12
NOTES_SHOWN = 5
FINDINGS_SHOWN = 4
"""Findings of one rule shown in full; the rest of an environment that is broken throughout is counted."""


def check(result: Result, style: Style, *, everything: bool = False) -> str:
    """Render a check: errors and warnings in full, notes in a line each, then one line that sums up."""
    lines: list[str] = []
    told: dict[str, int] = {}
    for finding in result.findings:
        if finding.severity == "note" and not everything:
            continue
        told[finding.rule] = told.get(finding.rule, 0) + 1
        if told[finding.rule] <= FINDINGS_SHOWN or everything:
            lines += [*finding_lines(finding, style), ""]
    for rule, count in told.items():
        if count > FINDINGS_SHOWN and not everything:
            lines += [
                style.paint(f"and {count - FINDINGS_SHOWN} more of {rule} (--all shows them)", "dim"),
                "",
            ]
    notes = [each for each in result.findings if each.severity == "note" and not each.quiet]
    if notes and not everything:
        lines += [finding_lines(finding, style)[0] for finding in notes[:NOTES_SHOWN]]
        left = len(notes) - NOTES_SHOWN
        lines += (
            [style.paint(f"      and {left} more notes (--all shows them)", "dim"), ""] if left > 0 else [""]
        )
    return "\n".join([*lines, *_unknown(result.unknown, style), _summary(result, style)]) + "\n"


def finding_lines(finding: Finding, style: Style) -> list[str]:
    """Return a finding in full: its sentence, the facts with their addresses, fixes, source."""
    severity = finding.severity or "error"
    head = style.paint(f"{severity}:", SEVERITY_COLOURS[severity], "bold")
    lines = [f"{head} {safe(finding.message)} {style.paint(f'[{finding.rule}]', 'dim')}"]
    width = max((len(each.address) for each in finding.evidence), default=0)
    for each in finding.evidence:
        lines.append(f"    {safe(each.address):<{width}}  {show(each.value)}")
    for fix in finding.fixes:
        lines.append(f"  {style.paint('fix:', 'green')} {safe(fix.message)}")
    if finding.source:
        lines.append(style.paint(f"  source: {safe(finding.source)}", "dim"))
    return lines


def _unknown(unknown: Sequence[Unknown], style: Style) -> list[str]:
    lines = [f"{style.paint('unknown:', 'cyan')} {safe(each.needs)} [{each.rule}]" for each in unknown[:5]]
    if len(unknown) > len(lines):
        lines.append(f"unknown: {len(unknown) - len(lines)} more (--json lists them)")
    return [*lines, ""] if lines else []


def _summary(result: Result, style: Style) -> str:
    counts = dict.fromkeys(SEVERITIES, 0)
    for finding in result.findings:
        counts[finding.severity or "error"] += not finding.quiet
    said = [f"{count} {severity}{'s' if count != 1 else ''}" for severity, count in counts.items() if count]
    quiet = sum(finding.quiet for finding in result.findings)
    rare = (
        f"; {quiet} known defect{'s' if quiet != 1 else ''} of rare uses (--all shows them)" if quiet else ""
    )
    if said:
        return ", ".join(said) + rare
    if result.unknown:
        return "nothing wrong was found, but not everything could be judged" + rare
    return style.paint("fine", "green") + ": nothing wrong was found" + rare


def difference(difference: Difference, style: Style, *, everything: bool = False) -> str:
    """Render a diff: why first, then what else differs, then what could not be seen."""
    if not difference.changes:
        return "no difference\n" + "".join(f"{line}\n" for line in _unseen(difference, style))
    lines = _causes(difference, style, everything)
    lines += ["", *_changes(difference.changes, style, everything), *_unseen(difference, style)]
    return "\n".join(lines) + "\n"


def _causes(difference: Difference, style: Style, everything: bool) -> list[str]:
    lines: list[str] = []
    proven = [cause for cause in difference.causes if cause.proven]
    if difference.bad and proven:
        lines.append(f"{difference.bad} fails, and on paper it stops failing when this is reverted:")
    elif proven:
        lines.append("which side fails is not known; findings on either side that a difference explains:")
    else:
        lines.append("no difference is proven to break anything; most likely first:")
    shown = difference.causes if everything else difference.causes[:CAUSES_SHOWN]
    for place, cause in enumerate(shown, 1):
        lines += _cause(place, cause, style)
    return lines


def _cause(place: int, cause: Cause, style: Style) -> list[str]:
    mark = style.paint("cause", "red", "bold") if cause.proven else style.paint("maybe", "yellow")
    rule = style.paint(f" [{cause.rule}]", "dim") if cause.rule else ""
    moved = f"{show(cause.before, 60)} -> {show(cause.after, 60)}"
    lines = [
        f"{place}. {mark}: {style.paint(safe(cause.address), 'bold')}  {moved}",
        f"   {safe(cause.why)}{rule}",
    ]
    others = len(cause.addresses) - 1
    if others:
        lines.append(style.paint(f"   and {others} that moved with it", "dim"))
    return lines


def _changes(changes: Sequence[Change], style: Style, everything: bool) -> list[str]:
    from envlock.reports.story import roots as roots_of

    # Packages are many and the list is cut: here they come last, behind the variables.
    roots = sorted(roots_of(changes), key=lambda root: _place(root.change))
    lines = [f"{len(changes)} differences (mine -> theirs):"]
    # What a pasted report does not state may well be the same there.
    stated = roots if everything else [root for root in roots if not root.change.one_sided]
    limit = len(roots) if everything else CHANGES_SHOWN
    for root in stated[:limit]:
        lines.append(f"  {_change(root.change)}")
        if root.followers and everything:
            lines += [f"    {_change(each)}" for each in root.followers]
        elif root.followers:
            lines.append(style.paint(f"    and {len(root.followers)} that moved with it", "dim"))
    left = [f"{len(stated) - limit} more"] if len(stated) > limit else []
    left += [f"{len(roots) - len(stated)} that only one side states"] if len(stated) < len(roots) else []
    if left:
        lines.append(style.paint(f"  and {', '.join(left)} (--all lists them)", "dim"))
    return lines


_ORDER = ("driver", "gpu", "container", "host", "os", "python", "toolkit", "compiler", "library", "framework",
          "environ", "package")  # fmt: skip


def _place(change: Change) -> tuple[int, str]:
    section = change.address.partition(".")[0]
    return (_ORDER.index(section) if section in _ORDER else len(_ORDER), change.address)


def _change(change: Change) -> str:
    what = {"origin": " (other origin)", "build": " (other build)", "digest": " (other content)"}.get(
        change.kind, ""
    )
    missing = "not stated" if change.one_sided else "not there"
    moved = f"{show(change.before, 60, missing)} -> {show(change.after, 60, missing)}"
    return f"{safe(change.address)}  {moved}{what}"


def _unseen(difference: Difference, style: Style) -> list[str]:
    if not difference.unobserved:
        return []
    lines = ["", style.paint("not compared, because one side could not see it:", "dim")]
    for each in difference.unobserved:
        lines.append(style.paint(f"  {safe(each.address)} ({each.side}: {safe(each.reason)})", "dim"))
    return lines


def verification(result: Verification, style: Style, lock: str, *, hint: bool = True) -> str:
    """Render a verify: the drift, root changes first, and the command that takes it into the lock."""
    if not result.problems:
        return f"{style.paint('fine', 'green')}: matches {safe(lock)}\n"
    lines: list[str] = []
    drift = [change for change in result.drift if not change.folded_under]
    if drift:
        lines.append(f"{style.paint('drift', 'red', 'bold')} from {safe(lock)} (locked -> now):")
        lines += [f"  {_change(change)}" for change in drift[:DRIFT_SHOWN]]
        left = len(result.drift) - min(len(drift), DRIFT_SHOWN)
        if left:
            lines.append(style.paint(f"  and {left} more (--json lists them)", "dim"))
    for finding in result.findings[: max(1, DRIFT_SHOWN - len(lines))]:
        lines += finding_lines(finding, style)[:1]
    if hint and drift:
        lines.append(f"to take this into the lock: envlock update {safe(lock)}")
    return "\n".join(lines) + "\n"
