"""All nodes of a fleet held to one lock; nodes that drift in the same way stand together."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from envlock.compare.groups import Alike
from envlock.compare.model import Unseen
from envlock.compare.nodes import Oddity, compare_nodes, unseen_on
from envlock.locks.policy import Verification, check_policy, verify, waived
from envlock.manifest.model import Manifest

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix


class Drifted(msgspec.Struct, frozen=True):
    """Nodes that differ from the lock in the same way."""

    nodes: tuple[str, ...]
    result: Verification


class NodesVerification(msgspec.Struct, frozen=True):
    """What holding a fleet to a lock comes to."""

    matching: tuple[str, ...]
    drifted: tuple[Drifted, ...]
    """The most nodes first."""
    oddities: tuple[Oddity, ...]
    """What the nodes differ in among themselves that must be the same, and no waiver of the lock covers."""
    failed: dict[str, str] = {}
    own: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    unobserved: tuple[Unseen, ...] = ()
    """What nodes could not see; ``side`` names them as one host list."""

    @property
    def nodes(self) -> int:
        """Return how many nodes have a manifest."""
        return len(self.matching) + len(self.uncompared) + sum(len(each.nodes) for each in self.drifted)

    @property
    def verdict(self) -> str:
        """Return "fine" where every node answered and matches, and no oddity is more than a note."""
        graver = any(oddity.severity != "note" for oddity in self.oddities)
        return "problem" if self.drifted or self.failed or self.uncompared or graver else "fine"


def verify_nodes(
    lock: Manifest,
    kinds: Sequence[Alike],
    matrix: Matrix,
    *,
    failed: Mapping[str, str] | None = None,
    own: Iterable[str] = (),
    uncompared: Iterable[str] = (),
    today: datetime.date | None = None,
) -> NodesVerification:
    """Hold each kind of node to a lock; raises PolicyError for a policy that makes no sense."""
    check_policy(lock.lock)
    today = today or datetime.date.today()
    matching: list[str] = []
    drifted: dict[bytes, tuple[list[str], Verification]] = {}
    for kind in kinds:
        result = verify(lock, kind.manifest, matrix, today=today)
        if not result.problems:
            matching += kind.members
            continue
        key = msgspec.json.encode([result.drift, result.findings], order="sorted")
        drifted.setdefault(key, ([], result))[0].extend(kind.members)
    oddities = [
        each
        for each in compare_nodes(kinds, matrix).oddities
        if each.finding.layer == "fleet" and not waived(lock.lock, each.finding, today)
    ]
    groups = [Drifted(tuple(sorted(nodes)), result) for nodes, result in drifted.values()]
    return NodesVerification(
        matching=tuple(sorted(matching)),
        drifted=tuple(sorted(groups, key=lambda each: (-len(each.nodes), each.nodes))),
        oddities=tuple(oddities),
        failed=dict(failed or {}),
        own=tuple(own),
        uncompared=tuple(uncompared),
        unobserved=unseen_on(kinds),
    )
