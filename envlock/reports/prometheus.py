"""A fleet in Prometheus' text exposition format, for node_exporter's textfile collector.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4). The number of series is bounded:
what is beyond the bound is counted. Values are as of the run; the collector adds the file's own time
(node_textfile_mtime_seconds), by which a run that stopped is noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from envlock.reports.story import roots
from envlock.reports.style import safe

if TYPE_CHECKING:
    from envlock.compare.nodes import NodesComparison, Oddity
    from envlock.locks.nodes import NodesVerification
    from envlock.rules.model import Finding

SERIES = 100
"""Series of one metric at most."""

LABEL_LIMIT = 200
"""Characters of a label's value at most."""

K = TypeVar("K")
_Found = dict[tuple[str, str, str], set[str]]
Sample = tuple[Mapping[str, str], int]


def comparison(result: NodesComparison) -> str:
    """Render how many nodes there are, which of them stand apart, and what is found on how many of them."""
    apart = [node for group in result.groups[1:] for node in group.members]
    states = {
        "equal": len(result.grouping.groups[0].members),
        "apart": len(apart),
        "failed": len(result.failed),
        "uncompared": len(result.uncompared),
    }
    lines = [
        *_nodes(states),
        *_metric("envlock_groups", "Groups of equal nodes.", [({}, len(result.grouping.groups))]),
        *_findings(_of_oddities(result.oddities)),
        *_node_flags(
            "envlock_node_apart", "Whether a node differs from the largest group.", dict.fromkeys(apart, 1)
        ),
    ]
    return "\n".join(lines) + "\n"


def verification(result: NodesVerification) -> str:
    """Render how many nodes match their lock, what has drifted on how many of them, and on which."""
    drifted = {node: len(each.result.drift) for each in result.drifted for node in each.nodes}
    states = {
        "matching": len(result.matching),
        "drifted": len(drifted),
        "failed": len(result.failed),
        "uncompared": len(result.uncompared),
    }
    drift = Counter[str]()
    findings = _of_oddities(result.oddities)
    for each in result.drifted:
        drift.update({root.change.address: len(each.nodes) for root in roots(each.result.drift)})
        for finding in each.result.findings:
            _add(findings, finding, each.nodes)
    samples = [({"address": address}, count) for address, count in _most(drift)]
    lines = [
        *_nodes(states),
        *_metric("envlock_drift", "Nodes on which a fact differs from the lock.", samples),
        *_metric("envlock_drift_unlisted", "Drifted facts beyond those listed.", [({}, _beyond(drift))]),
        *_findings(findings),
        *_node_flags("envlock_node_drift", "Facts of a node that differ from the lock.", drifted),
    ]
    return "\n".join(lines) + "\n"


def _of_oddities(oddities: Iterable[Oddity]) -> _Found:
    """Return the nodes of each finding, by rule, severity and subject."""
    found: _Found = {}
    for oddity in oddities:
        for finding in (oddity.finding, *oddity.consequences):
            _add(found, finding, oddity.nodes)
    return found


def _add(found: _Found, finding: Finding, nodes: Iterable[str]) -> None:
    key = (finding.rule, finding.severity or "error", finding.subject)
    found.setdefault(key, set()).update(nodes)


def _nodes(states: Mapping[str, int]) -> list[str]:
    samples = [({"state": state}, count) for state, count in states.items()]
    return _metric("envlock_nodes", "Nodes of the fleet by what came of them.", samples)


def _findings(found: _Found) -> list[str]:
    counts = Counter({key: len(nodes) for key, nodes in found.items()})
    samples = [
        ({"rule": rule, "severity": severity, "subject": subject}, count)
        for (rule, severity, subject), count in _most(counts)
    ]
    return [
        *_metric("envlock_finding", "Nodes that a finding is about.", samples),
        *_metric("envlock_finding_unlisted", "Findings beyond those listed.", [({}, _beyond(counts))]),
    ]


def _node_flags(name: str, words: str, values: Mapping[str, int]) -> list[str]:
    shown = sorted(values)[:SERIES]
    return _metric(
        name, f"{words} The first {SERIES} of them.", [({"node": node}, values[node]) for node in shown]
    )


def _most(counts: Counter[K]) -> list[tuple[K, int]]:
    """Return the largest counts, in an order that does not depend on how they were found."""
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:SERIES]


def _beyond(counts: Counter[K]) -> int:
    return max(0, len(counts) - SERIES)


def _metric(name: str, words: str, samples: Sequence[Sample]) -> list[str]:
    return [
        f"# HELP {name} {words}",
        f"# TYPE {name} gauge",
        *(f"{name}{_labels(each)} {value}" for each, value in samples),
    ]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """Return a label's value: backslash, quote and line feed escaped, no other control character left."""
    return safe(value)[:LABEL_LIMIT].replace("\\", "\\\\").replace('"', '\\"')
