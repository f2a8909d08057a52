"""A fleet as GitHub-flavoured Markdown: the odd nodes first, a table of groups, details folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from envlock.manifest.node_names import fold
from envlock.reports import story as told
from envlock.reports.markdown import (
    SEVERITY_MARKS,
    changes_table,
    code,
    folded,
    joined,
    left_out,
    prose,
    table_of,
)

if TYPE_CHECKING:
    from envlock.compare.model import Change
    from envlock.compare.nodes import NodesComparison, Oddity
    from envlock.locks.nodes import NodesVerification

ODDITIES_SHOWN = 20
GROUPS_SHOWN = 20
RANGES_SHOWN = 12


def comparison(result: NodesComparison, *, everything: bool = False) -> str:
    """Render a comparison."""
    lines = [f"### envlock: {prose(told.nodes_title(result))}"]
    lines += _oddities(result.oddities, everything)
    groups = result.groups
    limit = len(groups) if everything else GROUPS_SHOWN
    if len(groups) > 1:
        rows = (
            (
                _names(group.members, everything),
                str(len(group.members)),
                _moved(group.changes, group.reference),
            )
            for group in groups[:limit]
        )
        lines += [
            "",
            *table_of(("Nodes", "", "What sets them apart"), rows),
            *left_out(len(groups) - limit, "groups"),
        ]
        for group in groups[1:limit]:
            title = f"{prose(fold(group.members, 3))}: {told.plural(len(group.members), 'node')} apart"
            lines += folded(title, changes_table(group.changes, ("The others", "These"), everything))
    return joined([*lines, *_rest(result, everything)])


def verification(result: NodesVerification, lock: str, *, everything: bool = False) -> str:
    """Render a verification."""
    lines = [f"### envlock: {prose(told.nodes_verification_title(result, lock))}"]
    lines += _oddities(result.oddities, everything)
    limit = len(result.drifted) if everything else GROUPS_SHOWN
    if result.drifted:
        rows = (
            (_names(each.nodes, everything), str(len(each.nodes)), _moved(each.result.drift, False))
            for each in result.drifted[:limit]
        )
        lines += ["", *table_of(("Nodes", "", "What drifted"), rows)]
        lines += left_out(len(result.drifted) - limit, "kinds of drift")
    for each in result.drifted[:limit]:
        title = f"{prose(fold(each.nodes, 3))}: {told.plural(len(each.result.drift), 'fact')} off the lock"
        findings = [
            f"- {SEVERITY_MARKS[finding.severity or 'error']} {prose(finding.message)} {code(finding.rule)}"
            for finding in each.result.findings
        ]
        body = changes_table(each.result.drift, ("Lock", "Now"), everything)
        lines += folded(title, [*findings, "", *body] if findings else body)
    return joined([*lines, *_rest(result, everything)])


def _oddities(oddities: Sequence[Oddity], everything: bool) -> list[str]:
    limit = len(oddities) if everything else ODDITIES_SHOWN
    lines = [""] if oddities else []
    for oddity in oddities[:limit]:
        mark = SEVERITY_MARKS[oddity.severity]
        lines.append(f"- {mark} {prose(oddity.finding.message)} {code(oddity.finding.rule)}")
        if oddity.cause:
            lines.append(f"  - **Cause:** {code(oddity.cause.address)} (proven: put back, it is gone)")
    return lines + left_out(len(oddities) - limit, "findings")


def _moved(changes: Sequence[Change], reference: bool) -> str:
    if reference:
        return "the others are compared with them"
    found = told.roots(changes)
    said = ", ".join(code(root.change.address) for root in found[:3])
    return f"{said} and {len(found) - 3} more" if len(found) > 3 else said


def _rest(result: NodesComparison | NodesVerification, everything: bool) -> list[str]:
    lines = _failures(result.failed, everything)
    if result.own:
        lines += ["", f"Each node has its own, not compared: {', '.join(map(code, result.own))}"]
    for addresses, nodes in told.unseen_on(result.unobserved):
        lines += ["", f"Not seen, and so not compared: {code(addresses)} ({prose(nodes)})"]
    if result.uncompared:
        lines += ["", f"Too many kinds of node, not compared: {_names(result.uncompared, everything)}"]
    return lines


def _failures(failed: Mapping[str, str], everything: bool) -> list[str]:
    rows = ((_names(nodes, everything), prose(reason)) for nodes, reason in told.failed_nodes(failed))
    return ["", *table_of(("No manifest", "Why"), rows)] if failed else []


def _names(names: Iterable[str], everything: bool) -> str:
    return code(fold(names, None if everything else RANGES_SHOWN))
