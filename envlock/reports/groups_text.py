"""The groups of many machines as text for a terminal: who is equal, and what sets each group apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from envlock.reports import story
from envlock.reports.style import SEVERITY_COLOURS, safe, show

if TYPE_CHECKING:
    from envlock.compare.groups import Group, Grouping
    from envlock.compare.model import Change, Unseen
    from envlock.reports.story import Root
    from envlock.reports.style import Style

GROUPS_SHOWN = 8
MEMBERS_SHOWN = 8
CHANGES_SHOWN = 5
FINDINGS_SHOWN = 3
VALUE_LIMIT = 60


def groups(grouping: Grouping, style: Style, *, everything: bool = False) -> str:
    """Render the groups, the largest first; one page however many there are, unless everything is asked for."""
    lines = [style.paint(story.groups_title(grouping), "bold")]
    limit = len(grouping.groups) if everything else GROUPS_SHOWN
    for place, group in enumerate(grouping.groups[:limit], 1):
        lines += ["", *_group(place, group, grouping, style, everything)]
    left = grouping.groups[limit:]
    if left:
        machines = story.plural(sum(len(group.members) for group in left), "machine")
        lines += [
            "",
            style.paint(f"and {story.plural(len(left), 'more group')}, {machines} (--all lists them)", "dim"),
        ]
    return "\n".join(lines) + "\n"


def _group(place: int, group: Group, grouping: Grouping, style: Style, everything: bool) -> list[str]:
    names = story.members(group.members, len(group.members) if everything else MEMBERS_SHOWN)
    title = style.paint(story.group_title(group, grouping), "bold")
    return [f"{place}. {title}: {safe(names)}", *body(group, style, everything=everything)]


def body(group: Group, style: Style, *, everything: bool) -> list[str]:
    """Render what sets a group apart: its findings with their causes, its differences, what was not compared."""
    lines: list[str] = []
    shown = len(group.findings) if everything else FINDINGS_SHOWN
    for cause, finding in story.explained(group)[:shown]:
        severity = finding.severity or "error"
        mark = style.paint(f"{severity}:", SEVERITY_COLOURS[severity], "bold")
        lines.append(f"   {mark} {safe(finding.message)} {style.paint(f'[{finding.rule}]', 'dim')}")
        if cause:
            lines.append(f"     cause: {safe(cause.address)} (proven: put back, the finding is gone)")
    lines += _more(len(group.findings) - shown, "finding", style)
    return lines + differences(group.changes, group.unobserved, style, everything=everything)


def differences(
    changes: Sequence[Change], unobserved: Iterable[Unseen], style: Style, *, everything: bool
) -> list[str]:
    """Say what sets a group apart, root changes first, and what of it could not be compared."""
    lines: list[str] = []
    roots = story.roots(changes)
    limit = len(roots) if everything else CHANGES_SHOWN
    for root in roots[:limit]:
        lines += _root(root, style, everything)
    lines += _more(len(roots) - limit, "difference", style)
    for address, who in story.unseen_by(unobserved)[:CHANGES_SHOWN]:
        lines.append(style.paint(f"   not compared: {safe(address)} ({safe(story.members(who, 3))})", "dim"))
    return lines


def _root(root: Root, style: Style, everything: bool) -> list[str]:
    change = root.change
    kind = {"origin": " (other origin)", "build": " (other build)", "digest": " (other content)"}
    moved = f"{show(change.before, VALUE_LIMIT)} -> {show(change.after, VALUE_LIMIT)}"
    lines = [f"   {safe(change.address)}  {moved}{kind.get(change.kind, '')}"]
    if root.followers and everything:
        for each in root.followers:
            moved = f"{show(each.before, VALUE_LIMIT)} -> {show(each.after, VALUE_LIMIT)}"
            lines.append(f"     {safe(each.address)}  {moved}")
    elif root.followers:
        lines.append(style.paint(f"     and {len(root.followers)} that moved with it", "dim"))
    return lines


def _more(count: int, what: str, style: Style) -> list[str]:
    return (
        [style.paint(f"   and {story.plural(count, f'more {what}')} (--all lists them)", "dim")]
        if count > 0
        else []
    )
