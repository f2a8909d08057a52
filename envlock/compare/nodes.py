"""The kinds of node in one fleet: which node is the odd one out, in what, and what that breaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from envlock.compare.groups import Alike, Group, Grouping, group_alike
from envlock.compare.model import Cause, Unseen
from envlock.manifest.address import covers
from envlock.manifest.node_names import PARTS_SHOWN, fold
from envlock.rules.engine import Kind, Odd, run_fleet
from envlock.rules.model import SEVERITIES, Finding, Severity, Unknown
from envlock.rules.stack import Stack

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix


class Oddity(msgspec.Struct, frozen=True):
    """What some nodes have and the others do not, and what follows from it."""

    nodes: tuple[str, ...]
    finding: Finding
    consequences: tuple[Finding, ...] = ()
    """What it breaks on those nodes, gravest first."""
    cause: Cause | None = None
    """The difference that, taken back on paper, removes the first consequence or the finding itself."""

    @property
    def severity(self) -> Severity:
        """Return how bad it is: a difference is as bad as what follows from it."""
        return SEVERITIES[min(map(_grade, (self.finding, *self.consequences)))]


class NodesComparison(msgspec.Struct, frozen=True):
    """What the comparison of a fleet's nodes comes to."""

    oddities: tuple[Oddity, ...]
    """Worst first."""
    grouping: Grouping
    failed: dict[str, str] = {}
    """Nodes without a manifest, and why."""
    own: tuple[str, ...] = ()
    """Addresses that differ on nearly every node and were not compared."""
    uncompared: tuple[str, ...] = ()
    """Nodes that differ in too many ways to have been compared."""
    unobserved: tuple[Unseen, ...] = ()
    """What nodes could not see; ``side`` names them as one host list."""
    unknown: tuple[Unknown, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """Return the groups in the order in which they are told: the majority, then those of the worst oddity."""
        first, *apart = self.grouping.groups
        places: dict[str, int] = {}
        for place, oddity in enumerate(self.oddities):
            for node in oddity.nodes:
                places.setdefault(node, place)
        apart.sort(key=lambda group: places.get(group.members[0], len(self.oddities)))
        return (first, *apart)

    @property
    def nodes(self) -> int:
        """Return how many nodes have a manifest."""
        return sum(len(group.members) for group in self.grouping.groups) + len(self.uncompared)

    @property
    def verdict(self) -> str:
        """Return "fine" where all nodes answered and are equal, else "problem"."""
        return "problem" if len(self.grouping.groups) > 1 or self.failed or self.uncompared else "fine"


def compare_nodes(
    kinds: Sequence[Alike],
    matrix: Matrix,
    *,
    failed: Mapping[str, str] | None = None,
    own: Iterable[str] = (),
    uncompared: Iterable[str] = (),
) -> NodesComparison:
    """Compare the kinds of node in a fleet; there must be at least one, and their order has no influence."""
    stacks = [Kind(tuple(kind.members), Stack(kind.manifest)) for kind in kinds]
    grouping = group_alike(kinds, matrix)
    return NodesComparison(
        oddities=_oddities(run_fleet(stacks, matrix), grouping),
        grouping=grouping,
        failed=dict(failed or {}),
        own=tuple(own),
        uncompared=tuple(uncompared),
        unobserved=unseen_on(kinds),
        unknown=grouping.unknown,
    )


def unseen_on(kinds: Iterable[Alike]) -> tuple[Unseen, ...]:
    """Return what the nodes could not see, by address and then by node."""
    found = [each for kind in kinds for each in kind.unobserved]
    return tuple(sorted(found, key=lambda each: (each.address, each.side)))


def _oddities(odd: Sequence[Odd], grouping: Grouping) -> tuple[Oddity, ...]:
    """Join each difference with what it breaks; what a group breaks without such a difference stands for itself."""
    found = [_joined(each, grouping) for each in odd]
    told = {id(each) for oddity in found for each in oddity.consequences}
    for group in grouping.groups:
        names = fold(group.members, PARTS_SHOWN)
        for finding in group.findings:
            if id(finding) not in told and not finding.quiet:
                named = msgspec.structs.replace(finding, message=f"{names}: {finding.message}")
                found.append(Oddity(group.members, named, cause=_cause_of(finding, group)))
    found.sort(key=lambda each: SEVERITIES.index(each.severity))
    return tuple(found)


def _joined(odd: Odd, grouping: Grouping) -> Oddity:
    """Find what only the odd nodes have wrong that rests on the fact in which they differ."""
    names, finding = odd
    consequences: list[tuple[Finding, Cause | None]] = []
    for group in grouping.groups:
        if not set(group.members) & set(names):
            continue
        for each in group.findings:
            cause = _cause_of(each, group)
            rests_on = cause.addresses if cause else (each.subject, *(held.address for held in each.evidence))
            if any(_touch(address, finding.subject) for address in rests_on):
                consequences.append((each, cause))
    if not consequences:
        return Oddity(names, finding)
    # A proven consequence is told before one that merely rests on the same fact.
    consequences.sort(key=lambda pair: (pair[1] is None, _grade(pair[0])))
    first, cause = consequences[0]
    more = f" (and {len(consequences) - 1} more of it)" if len(consequences) > 1 else ""
    # What is an error by itself needs no consequence to be one.
    if cause and finding.severity != "error":
        follows = f", and so {_without(_said(finding), first.message)}"
    else:
        follows = f"; on {fold(names, PARTS_SHOWN)} {first.message}"
    return Oddity(
        names,
        msgspec.structs.replace(finding, message=f"{finding.message}{follows}{more}"),
        tuple(each for each, _ in consequences),
        cause,
    )


def _said(finding: Finding) -> str:
    """Return what a difference says of its one odd value: "driver 550.54.14"."""
    return finding.message.partition(": ")[2].partition(" (")[0]


def _without(said: str, message: str) -> str:
    """Return what follows from a value without that value, which has been said already.

    "NCCL_IB_DISABLE=1: sockets only" leaves "sockets only", "driver 550.54.14 is too old" leaves "it is too old".
    """
    rest = message.removeprefix(said)
    told = re.match(r"( \([^()]*\))?: (.+)", rest, re.DOTALL)
    if rest == message or not said:
        return message
    if told:
        return told[2] + (told[1] or "")
    return f"it{rest}" if re.match(r" [a-z]", rest) else message


def _grade(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity or "error")


def _cause_of(finding: Finding, group: Group) -> Cause | None:
    """Return the proven cause of a group's own finding; the reason that a cause gives ends with its message."""
    return next(
        (
            cause
            for cause in group.causes
            if cause.rule == finding.rule and cause.why.endswith(finding.message)
        ),
        None,
    )


def _touch(one: str, other: str) -> bool:
    return covers(one, other) or covers(other, one)
