"""Which of many machines are equal, and what sets each group apart from the majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from envlock.compare.engine import Difference, compare
from envlock.compare.model import Cause, Change, Unseen
from envlock.manifest.digest import digest_of, digests
from envlock.manifest.model import Manifest, to_plain
from envlock.rules.model import Finding, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix

_WEIGHT = {"error": 100, "warning": 10, "note": 1}
_REST = ("container", "environ", "conda")
"""What a diff compares and no digest covers."""


class Group(msgspec.Struct, frozen=True):
    """Machines that hold the same stack, and what sets them apart from the reference group."""

    members: tuple[str, ...]
    """Labels, in order."""
    reference: bool
    """True for the group that the others are compared with: the largest one."""
    changes: tuple[Change, ...] = ()
    """From the reference to this group, folded."""
    causes: tuple[Cause, ...] = ()
    """Differences that a finding of this group rests on, best first; only those that are proven."""
    findings: tuple[Finding, ...] = ()
    """What only this group has."""
    unobserved: tuple[Unseen, ...] = ()
    """What a member could not see; ``side`` is its label."""


class Grouping(msgspec.Struct, frozen=True):
    """What the comparison of many machines comes to; the reference group comes first, then the largest."""

    groups: tuple[Group, ...]
    unknown: tuple[Unknown, ...] = ()

    @property
    def verdict(self) -> str:
        """Return "fine" where all machines are equal, else "problem"."""
        return "problem" if len(self.groups) > 1 else "fine"

    @property
    def has_majority(self) -> bool:
        """Tell whether the reference group holds more than half of the machines."""
        return len(self.groups[0].members) * 2 > sum(len(group.members) for group in self.groups)


class Alike(msgspec.Struct):
    """Machines of one content while they are being grouped: one manifest stands for all."""

    members: list[str]
    manifest: Manifest
    unobserved: list[Unseen]


def group(machines: Sequence[tuple[str, Manifest]], matrix: Matrix) -> Grouping:
    """Group labelled machines by content and compare each group with the largest.

    The labels must differ from each other, and there must be at least one. The order of the machines has no
    influence. Only groups are compared, not machines, so a thousand equal nodes cost little more than one.
    """
    return group_alike(_buckets(machines), matrix)


def group_alike(buckets: Sequence[Alike], matrix: Matrix) -> Grouping:
    """Compare each group of equal machines with the largest; there must be at least one group."""
    buckets = sorted(buckets, key=lambda bucket: (-len(bucket.members), min(bucket.members)))
    reference = _reference(buckets, matrix)
    apart: dict[tuple[Change, ...], tuple[Alike, Difference]] = {}
    for bucket in buckets:
        if bucket is reference:
            continue
        difference = compare(reference.manifest, bucket.manifest, matrix, bad="theirs")
        if not difference.changes:
            # What was not seen, and who installed a package, sets nobody apart.
            _join(reference, bucket)
        elif (same := _changes_key(difference.changes)) in apart:
            _join(apart[same][0], bucket)
        else:
            apart[same] = (bucket, difference)
    return _grouping(reference, list(apart.values()))


def _join(bucket: Alike, other: Alike) -> None:
    bucket.members += other.members
    bucket.unobserved += other.unobserved


def _buckets(machines: Iterable[tuple[str, Manifest]]) -> list[Alike]:
    found: dict[tuple[str, ...], Alike] = {}
    for label, manifest in sorted(machines, key=lambda machine: machine[0]):
        bucket = found.setdefault(_content(manifest), Alike([], manifest, []))
        bucket.members.append(label)
        bucket.unobserved += [
            Unseen(address, reason, label) for address, reason in manifest.capture.unobserved.items()
        ]
    return list(found.values())


def _content(manifest: Manifest) -> tuple[str, ...]:
    """Return digests of everything that a diff compares; a manifest's own [digest] may be out of date."""
    plain = to_plain(manifest)
    rest = {section: plain.get(section) for section in _REST}
    return (*digests(manifest).values(), digest_of([rest, sorted(manifest.capture.unobserved)]))


def _reference(buckets: Sequence[Alike], matrix: Matrix) -> Alike:
    """Return the largest bucket; among equally large ones the one with the least wrong, then the least seen apart."""
    largest = [bucket for bucket in buckets if len(bucket.members) == len(buckets[0].members)]
    if len(largest) == 1:
        return largest[0]
    from envlock.rules.engine import run

    def wrong(bucket: Alike) -> tuple[int, int, str]:
        findings = run(bucket.manifest, matrix, try_fixes=False).findings
        weight = sum(_WEIGHT[finding.severity or "error"] for finding in findings)
        return (weight, len(bucket.manifest.capture.unobserved), min(bucket.members))

    return min(largest, key=wrong)


def _changes_key(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    # Values may be tables, which cannot be hashed; their canonical text can.
    return tuple(
        msgspec.structs.replace(
            change,
            before=msgspec.json.encode(change.before, order="sorted"),
            after=msgspec.json.encode(change.after, order="sorted"),
        )
        for change in changes
    )


def _grouping(reference: Alike, apart: list[tuple[Alike, Difference]]) -> Grouping:
    apart.sort(key=lambda pair: (-len(pair[0].members), min(pair[0].members)))
    owners = Counter(
        identity for _, difference in apart for identity in {f.identity for f in _findings(difference)}
    )
    groups = []
    for bucket, difference in apart:
        shared = {each.finding.identity for each in difference.findings if each.side == "mine"}
        own = [each for each in _findings(difference) if each.identity not in shared]
        groups.append(
            Group(
                members=tuple(sorted(bucket.members)),
                reference=False,
                changes=difference.changes,
                causes=_own_causes(difference, own),
                findings=tuple(each for each in own if owners[each.identity] == 1),
                unobserved=_unobserved(bucket),
            )
        )
    theirs = _only_the_reference(apart)
    first = Group(tuple(sorted(reference.members)), True, findings=theirs, unobserved=_unobserved(reference))
    unknown = {(each.rule, each.needs): each for _, difference in apart for each in difference.unknown}
    return Grouping((first, *groups), tuple(unknown.values()))


def _findings(difference: Difference) -> list[Finding]:
    """Return what is wrong with the group that a difference leads to."""
    return [each.finding for each in difference.findings if each.side == "theirs"]


def _own_causes(difference: Difference, own: Sequence[Finding]) -> tuple[Cause, ...]:
    """Return the proven causes of this group's own findings; a cause of the reference's is not this group's."""
    rules = {finding.rule for finding in own}
    return tuple(cause for cause in difference.causes if cause.proven and cause.rule in rules)


def _only_the_reference(apart: Sequence[tuple[Alike, Difference]]) -> tuple[Finding, ...]:
    """Return what is wrong with the reference group and with no other, but for defects of rare uses: they work."""
    if not apart:
        return ()
    elsewhere = {each.identity for _, difference in apart for each in _findings(difference)}
    mine = [each.finding for each in apart[0][1].findings if each.side == "mine"]
    return tuple(finding for finding in mine if finding.identity not in elsewhere and not finding.quiet)


def _unobserved(bucket: Alike) -> tuple[Unseen, ...]:
    return tuple(sorted(bucket.unobserved, key=lambda each: (each.side, each.address)))
