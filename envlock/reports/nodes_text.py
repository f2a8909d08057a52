"""A fleet as text for a terminal: the odd node and what it breaks first, one page however many nodes there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from envlock.manifest.node_names import fold
from envlock.reports import story
from envlock.reports.groups_text import differences
from envlock.reports.style import SEVERITY_COLOURS, safe, show

if TYPE_CHECKING:
    from envlock.compare.nodes import NodesComparison, Oddity
    from envlock.locks.nodes import Drifted, NodesVerification
    from envlock.reports.style import Style
    from envlock.rules.model import Finding

ODDITIES_SHOWN = 10
GROUPS_SHOWN = 6
FAILURES_SHOWN = 5
OWN_SHOWN = 6
RANGES_SHOWN = 8
DRIFT_FINDINGS_SHOWN = 3


def comparison(result: NodesComparison, style: Style, *, everything: bool = False) -> str:
    """Render a comparison: what sets nodes apart, worst first; then who gave nothing; then the groups."""
    lines = [style.paint(story.nodes_title(result), "bold")]
    lines += _oddities(result.oddities, style, everything)
    lines += _failures(result.failed, style, everything)
    groups = result.groups
    limit = len(groups) if everything else GROUPS_SHOWN
    if len(groups) > 1:
        for group in groups[:limit]:
            title = style.paint(story.node_group_title(group, result.grouping), "bold")
            lines += ["", f"{title}: {_names(group.members, everything)}"]
            lines += differences(group.changes, (), style, everything=everything)
        left = groups[limit:]
        nodes = sum(len(group.members) for group in left)
        lines += _left(len(left), "group", style, f", {story.plural(nodes, 'node')}")
    return _page([*lines, *_rest(result, style, everything)])


def verification(result: NodesVerification, style: Style, lock: str, *, everything: bool = False) -> str:
    """Render a verification: what the nodes differ in, then the drift, each kind of it with its nodes."""
    lines = [style.paint(safe(story.nodes_verification_title(result, lock)), "bold")]
    lines += _oddities(result.oddities, style, everything)
    lines += _failures(result.failed, style, everything)
    limit = len(result.drifted) if everything else GROUPS_SHOWN
    for each in result.drifted[:limit]:
        lines += ["", *_drifted(each, style, everything)]
    left = result.drifted[limit:]
    nodes = sum(len(each.nodes) for each in left)
    lines += _left(len(left), "kind of drift", style, f", {story.plural(nodes, 'node')}")
    return _page([*lines, *_rest(result, style, everything)])


def _oddities(oddities: Sequence[Oddity], style: Style, everything: bool) -> list[str]:
    shown = len(oddities) if everything else ODDITIES_SHOWN
    lines = [""] if oddities else []
    for place, oddity in enumerate(oddities[:shown], 1):
        lines += _oddity(place, oddity, style)
    return lines + _left(len(oddities) - shown, "finding", style)


def _oddity(place: int, oddity: Oddity, style: Style) -> list[str]:
    lines = [f"{place}. {_finding(oddity.finding, style, oddity.severity)}"]
    cause = oddity.cause
    if cause:
        moved = f"{show(cause.before, 40)} -> {show(cause.after, 40)}"
        lines.append(f"   cause: {safe(cause.address)}  {moved} (proven: put back, it is gone)")
    return lines


def _finding(finding: Finding, style: Style, severity: str = "") -> str:
    severity = severity or finding.severity or "error"
    mark = style.paint(f"{severity}:", SEVERITY_COLOURS[severity], "bold")
    return f"{mark} {safe(finding.message)} {style.paint(f'[{finding.rule}]', 'dim')}"


def _drifted(each: Drifted, style: Style, everything: bool) -> list[str]:
    title = style.paint(f"{story.plural(len(each.nodes), 'node')} off the lock", "bold")
    lines = [f"{title}: {_names(each.nodes, everything)}"]
    shown = len(each.result.findings) if everything else DRIFT_FINDINGS_SHOWN
    lines += [f"   {_finding(finding, style)}" for finding in each.result.findings[:shown]]
    lines += _left(len(each.result.findings) - shown, "finding", style)
    return lines + differences(each.result.drift, (), style, everything=everything)


def _failures(failed: Mapping[str, str], style: Style, everything: bool) -> list[str]:
    if not failed:
        return []
    reasons = story.failed_nodes(failed)
    limit = len(reasons) if everything else FAILURES_SHOWN
    lines = ["", style.paint("no manifest:", "bold")]
    lines += [f"   {_names(nodes, everything)}: {safe(reason)}" for nodes, reason in reasons[:limit]]
    return lines + _left(len(reasons) - limit, "reason", style)


def _rest(result: NodesComparison | NodesVerification, style: Style, everything: bool) -> list[str]:
    lines: list[str] = []
    if result.own:
        own = ", ".join(result.own[: len(result.own) if everything else OWN_SHOWN])
        more = len(result.own) - OWN_SHOWN
        counted = f" and {more} more" if more > 0 and not everything else ""
        lines.append(f"each node has its own, not compared: {safe(own)}{counted}")
    unseen = story.unseen_on(result.unobserved)
    for addresses, nodes in unseen[: len(unseen) if everything else OWN_SHOWN]:
        lines.append(f"not seen, and so not compared: {safe(addresses)} ({safe(nodes)})")
    if result.uncompared:
        lines.append(f"too many kinds of node, not compared: {_names(result.uncompared, everything)}")
    return ["", *(style.paint(line, "dim") for line in lines)] if lines else []


def _names(names: Sequence[str], everything: bool) -> str:
    return safe(fold(names, None if everything else RANGES_SHOWN))


def _left(count: int, what: str, style: Style, more: str = "") -> list[str]:
    if count <= 0:
        return []
    return [
        "",
        style.paint(f"and {count:,} more {what}{'' if count == 1 else 's'}{more} (--all lists them)", "dim"),
    ]


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
