"""What a job's ranks say before they stop: the odd one out in one sentence, then what sets it apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from envlock.reports import groups_text, story
from envlock.reports.style import Style, safe, show

if TYPE_CHECKING:
    from envlock.compare.groups import Group, Grouping

NAMED = 4
"""Nodes named in a sentence at most."""

GROUPS_SHOWN = 8


def explanation(grouping: Grouping, nodes: Mapping[str, str]) -> str:
    """Tell how the stacks of one job differ, the smallest group first; plain text, since it ends up in logs.

    The members of the groups are ranks, as text that can be sorted; ``nodes`` says on which node each of them is.
    """
    first, *apart = grouping.groups
    odd = sorted(apart, key=lambda group: len(group.members))
    ranks = sum(len(group.members) for group in grouping.groups)
    lines = [_headline(first, odd, nodes, majority=grouping.has_majority)]
    for group in odd[:GROUPS_SHOWN]:
        lines += ["", *_group(group, f"{len(group.members):,} of {story.plural(ranks, 'rank')}", nodes)]
    if odd[GROUPS_SHOWN:]:
        lines += ["", f"and {story.plural(len(odd) - GROUPS_SHOWN, 'more group')}"]
    role = "the majority" if grouping.has_majority else "compared with"
    title = f"{role}, {len(first.members):,} of {story.plural(ranks, 'rank')}"
    lines += ["", *_group(first, title, nodes)]
    unseen = sorted({each.address for group in grouping.groups for each in group.unobserved})
    if unseen:
        lines += ["", f"not compared, since not every rank could see it: {safe(', '.join(unseen))}"]
    return "\n".join(lines) + "\n"


def _group(group: Group, title: str, nodes: Mapping[str, str]) -> list[str]:
    # What was not seen is told once for all groups.
    body = groups_text.body(
        msgspec.structs.replace(group, unobserved=()), Style(colour=False), everything=False
    )
    return [f"{_named(group.members, nodes)} ({title}){':' if body else ''}", *body]


def _headline(first: Group, odd: Sequence[Group], nodes: Mapping[str, str], *, majority: bool) -> str:
    ranks = [rank for group in odd for rank in group.members]
    verb = "differs" if len(ranks) == 1 else "differ"
    whom = f"the {len(first.members):,} other ranks" if majority else _named(first.members, nodes)
    return f"the stacks of this job differ: {_named(ranks, nodes)} {verb} from {whom}{_what(odd)}"


def _what(odd: Sequence[Group]) -> str:
    """Say the first difference, where one group is apart: a proven cause, else what lies lowest in the stack."""
    if len(odd) != 1:
        return ""
    causes = [cause.address for cause in odd[0].causes]
    roots = [root.change for root in story.roots(odd[0].changes)]
    change = next((change for change in roots if change.address in causes), roots[0])
    more = f" and {len(roots) - 1} more" if len(roots) > 1 else ""
    return f": {safe(change.address)} {show(change.after, 60)} instead of {show(change.before, 60)}{more}"


def _named(ranks: Sequence[str], nodes: Mapping[str, str]) -> str:
    """Name ranks node by node: ``rank 3 on node2, ranks 8-15 on node7``."""
    by_node: dict[str, list[int]] = {}
    for rank in ranks:
        by_node.setdefault(nodes[rank], []).append(int(rank))
    return safe(story.members([spell(numbers, node) for node, numbers in by_node.items()], NAMED))


def spell(ranks: Sequence[int], node: str) -> str:
    """Name ranks of one node, neighbours as a span: ``ranks 8-10, 12 on node17``."""
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    said = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"rank{'' if said.isdigit() else 's'} {said} on {node}"
