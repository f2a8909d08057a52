"""Results as the one JSON object that ``--json`` prints; its schema is schemas/report.schema.json."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from envlock.compare.model import Cause, Change, Unseen
from envlock.rules.model import Evidence, Finding, Result, Severity, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envlock.compare.engine import Difference
    from envlock.compare.groups import Group, Grouping
    from envlock.compare.nodes import NodesComparison, Oddity
    from envlock.locks.nodes import NodesVerification
    from envlock.locks.policy import Verification
    from envlock.manifest.model import Manifest

SCHEMA = "envlock-report/1"

_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON lets stand raw in a text and a terminal may obey; C0 it escapes itself."""


class ReportedFix(msgspec.Struct, frozen=True):
    """A change that removes a finding; it was tried on paper."""

    address: str
    to: str
    message: str


class ReportedFinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding as reports print it."""

    rule: str
    severity: Severity
    layer: str
    subject: str
    message: str
    side: str = ""
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[ReportedFix, ...] = ()
    source: str = ""


class ReportedGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """Machines that are equal, and what sets them apart from the reference group."""

    members: tuple[str, ...]
    reference: bool
    """True for the group that the others are compared with: the largest one."""
    findings: tuple[ReportedFinding, ...] = ()
    """What only this group has."""
    causes: tuple[Cause, ...] = ()
    """Proven ones of this group's own findings."""
    changes: tuple[Change, ...] = ()
    """From the reference group to this one."""
    unobserved: tuple[Unseen, ...] = ()
    """What a member could not see; side is its label."""


class ReportedOddity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What some nodes of a fleet have and the others do not."""

    nodes: tuple[str, ...]
    severity: Severity
    """That of the finding or of its gravest consequence."""
    finding: ReportedFinding
    consequences: tuple[ReportedFinding, ...] = ()
    """What it breaks on these nodes, gravest first."""
    cause: Cause | None = None
    """The proven one, from the others to these nodes."""


class ReportedDrift(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nodes that differ from the lock in the same way."""

    nodes: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    """From the lock to these nodes."""
    findings: tuple[ReportedFinding, ...] = ()
    """What these machines do not satisfy, and waivers that have expired."""


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """The object; keys that do not apply are left out."""

    schema: str
    command: str
    verdict: str
    findings: tuple[ReportedFinding, ...] | None = None
    bad: str = ""
    causes: tuple[Cause, ...] | None = None
    changes: tuple[Change, ...] | None = None
    unobserved: tuple[Unseen, ...] | None = None
    unknown: tuple[Unknown, ...] | None = None
    groups: tuple[ReportedGroup, ...] | None = None
    oddities: tuple[ReportedOddity, ...] | None = None
    """Of a fleet: what must be the same and is not, worst first."""
    matching: tuple[str, ...] | None = None
    """Nodes that match the lock."""
    drifted: tuple[ReportedDrift, ...] | None = None
    failed: dict[str, str] | None = None
    """Nodes that gave no manifest, and why."""
    own: tuple[str, ...] | None = None
    """Facts that differ on nearly every node and were therefore not compared."""
    uncompared: tuple[str, ...] | None = None
    """Nodes of so many kinds that they were not compared."""


def check(result: Result, manifest: Manifest) -> str:
    """Render a check."""
    unobserved = tuple(Unseen(each, why) for each, why in sorted(manifest.capture.unobserved.items()))
    return encode(
        Report(
            SCHEMA,
            "check",
            result.verdict,
            findings=tuple(reported(finding) for finding in result.findings),
            unobserved=unobserved,
            unknown=result.unknown,
        )
    )


def difference(difference: Difference) -> str:
    """Render a diff."""
    return encode(
        Report(
            SCHEMA,
            "diff",
            difference.verdict,
            findings=tuple(reported(each.finding, each.side) for each in difference.findings),
            bad=difference.bad or "",
            causes=difference.causes,
            changes=difference.changes,
            unobserved=difference.unobserved,
            unknown=difference.unknown,
        )
    )


def verification(result: Verification) -> str:
    """Render a verify; its changes go from the lock to now."""
    return encode(
        Report(
            SCHEMA,
            "verify",
            result.verdict,
            findings=tuple(reported(finding) for finding in result.findings),
            changes=result.drift,
            unobserved=result.unobserved,
            unknown=result.unknown,
        )
    )


def groups(grouping: Grouping) -> str:
    """Render the groups of three or more machines."""
    return encode(
        Report(SCHEMA, "diff", grouping.verdict, unknown=grouping.unknown, groups=_groups(grouping.groups))
    )


def nodes(result: NodesComparison) -> str:
    """Render the comparison of a fleet's nodes."""
    return encode(
        Report(
            SCHEMA,
            "fleet diff",
            result.verdict,
            unknown=result.unknown,
            groups=_groups(result.groups),
            oddities=_oddities(result.oddities),
            failed=result.failed,
            own=result.own,
            uncompared=result.uncompared,
            unobserved=result.unobserved,
        )
    )


def nodes_verification(result: NodesVerification) -> str:
    """Render a fleet that is held to one lock."""
    drifted = tuple(
        ReportedDrift(each.nodes, each.result.drift, tuple(map(reported, each.result.findings)))
        for each in result.drifted
    )
    return encode(
        Report(
            SCHEMA,
            "fleet verify",
            result.verdict,
            oddities=_oddities(result.oddities),
            matching=result.matching,
            drifted=drifted,
            failed=result.failed,
            own=result.own,
            uncompared=result.uncompared,
            unobserved=result.unobserved,
        )
    )


def _oddities(oddities: Iterable[Oddity]) -> tuple[ReportedOddity, ...]:
    return tuple(
        ReportedOddity(
            nodes=each.nodes,
            severity=each.severity,
            finding=reported(each.finding),
            consequences=tuple(map(reported, each.consequences)),
            cause=each.cause,
        )
        for each in oddities
    )


def _groups(groups: Iterable[Group]) -> tuple[ReportedGroup, ...]:
    return tuple(
        ReportedGroup(
            members=each.members,
            reference=each.reference,
            findings=tuple(reported(finding) for finding in each.findings),
            causes=each.causes,
            changes=each.changes,
            unobserved=each.unobserved,
        )
        for each in groups
    )


def reported(finding: Finding, side: str = "") -> ReportedFinding:
    """Return a finding as reports print it; ``side`` is "mine" or "theirs" in a diff."""
    return ReportedFinding(
        rule=finding.rule,
        severity=finding.severity or "error",
        layer=finding.layer,
        subject=finding.subject,
        message=finding.message,
        side=side,
        evidence=finding.evidence,
        fixes=tuple(ReportedFix(fix.address, fix.to, fix.message) for fix in finding.fixes),
        source=finding.source,
    )


def encode(report: Report) -> str:
    """Return the report as indented JSON with a line end, control and direction characters escaped."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n"
