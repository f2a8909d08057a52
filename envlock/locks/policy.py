"""The lock policy: image facts must match, machine facts must satisfy, and what people wrote in ``[lock]``.

``ignore`` names addresses that may move freely; ``allow`` says how far one may move (exact, patch, minor,
any, or a PEP 440 specifier); a waiver silences a rule until its day, after which it is a finding itself.
The most specific pattern (the longest one that covers an address) decides.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from envlock.compare.changes import changes as find_changes
from envlock.compare.folding import fold
from envlock.compare.model import Change, Unseen
from envlock.errors import EnvlockError
from envlock.manifest.address import covers
from envlock.manifest.model import Driver, Host, Lock, Manifest
from envlock.manifest.place import put_on
from envlock.manifest.versions import matches, size_of_change, specifier
from envlock.rules.model import Evidence, Finding, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix

LEVELS = ("exact", "patch", "minor", "any")
_REACH = {"build": 0, "patch": 1, "minor": 2, "major": 3, "unknown": 3}

_OWN_PLACE = ("python.executable", "python.prefix")
"""Where an environment lies is not what it is: the same image facts may lie elsewhere in a checkout."""

_OF_THE_SHELL = ("LANG", "LC_", "TERM", "VIRTUAL_ENV", "CONDA_", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
                 "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")  # fmt: skip
"""Variables that belong to whoever runs the command rather than to the image; prefixes."""


class PolicyError(EnvlockError):
    """A policy that cannot be followed; the text names the pattern and what may stand there."""


class Verification(msgspec.Struct, frozen=True):
    """What a verify comes to."""

    drift: tuple[Change, ...]
    """Facts that the policy does not let move; from the lock to now."""
    findings: tuple[Finding, ...]
    """What the machine does not satisfy, and waivers that have expired."""
    unobserved: tuple[Unseen, ...]
    unknown: tuple[Unknown, ...] = ()

    @property
    def problems(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self.drift or self.findings)

    @property
    def verdict(self) -> str:
        """Return "problem" or "fine"."""
        return "problem" if self.problems else "fine"


def verify(
    lock: Manifest, current: Manifest, matrix: Matrix, *, today: datetime.date | None = None
) -> Verification:
    """Compare a stack with its lock; raises PolicyError for a policy that makes no sense."""
    check_policy(lock.lock)
    today = today or datetime.date.today()
    moved = find_changes(lock, current)
    drift = [change for change in moved if _drifts(change, lock, current)]
    unobserved = [
        Unseen(address, reason, side)
        for side, manifest in (("lock", lock), ("now", current))
        for address, reason in sorted(manifest.capture.unobserved.items())
    ]
    findings = [*_unsatisfied(lock, current, matrix, today), *expired(lock.lock, today)]
    return Verification(tuple(fold(drift, lock, current)), tuple(findings), tuple(unobserved))


def check_policy(policy: Lock) -> None:
    """Raise PolicyError where ``allow`` holds something else than a level or a specifier."""
    for pattern, level in policy.allow.items():
        if level not in LEVELS and (specifier(level) is None or not level.strip()):
            raise PolicyError(
                f"lock.allow.{pattern}: {level!r} is neither {', '.join(LEVELS)} nor a specifier such as '>=1.2,<2'"
            )


def allowance(policy: Lock, address: str) -> str | None:
    """Return what the most specific pattern allows an address; None where no pattern covers it."""
    patterns = [pattern for pattern in policy.allow if covers(pattern, address) or covers(address, pattern)]
    return policy.allow[max(patterns, key=len)] if patterns else None


def ignored(policy: Lock, address: str) -> bool:
    """Tell whether people let an address move freely."""
    return any(covers(pattern, address) for pattern in policy.ignore)


def _drifts(change: Change, lock: Manifest, current: Manifest) -> bool:
    address = change.address
    section, _, name = address.partition(".")
    if ignored(lock.lock, address) or address in _OWN_PLACE or section in ("container",):
        return False
    allowed = allowance(lock.lock, address)
    if section in ("host", "driver", "gpu"):
        # The machine's facts are held only to what people wrote about them, and to the rules; a
        # specifier for a whole table means its version.
        if allowed is None or (allowed not in LEVELS and section in lock.lock.allow and name != "version"):
            return False
        return not _permits(allowed, change)
    if section == "environ" and name.startswith(_OF_THE_SHELL):
        return False
    if section == "conda" and name in current.conda and name not in lock.conda:
        return False  # a prefix more beside the environment: the lock is not about it
    if section == "conda" and name in lock.conda and name not in current.conda:
        # Gone from an image it is a change of the image; another machine need not have it.
        return current.capture.source in ("image", "root") and not _permits(allowed or "exact", change)
    if lock.capture.source == "import" and change.kind == "added":
        return False
    if current.capture.source == "import" and change.kind == "removed":
        return False
    return _differs(change) and not _permits(allowed or "exact", change)


_PLACES = ("path", "executable", "prefix")


def _differs(change: Change) -> bool:
    """Tell whether a change is one of content, where the values are tables that also name places."""
    if isinstance(change.before, list) and isinstance(change.after, list):
        return _content(change.before) != _content(change.after)
    return True


def _content(copies: list[Any]) -> list[Any]:
    stripped = [
        {key: value for key, value in copy.items() if key not in _PLACES} if isinstance(copy, dict) else copy
        for copy in copies
    ]
    return sorted(stripped, key=repr)


def _permits(allowed: str, change: Change) -> bool:
    if allowed == "any":
        return True
    if allowed == "exact":
        return False
    before, after = _version(change.before), _version(change.after)
    if allowed not in LEVELS:
        return after is not None and matches(after, allowed) is True
    if before is None or after is None or before == after:
        # Another build or content under the same version is not a patch release.
        return False
    return _REACH[size_of_change(before, after)] <= _REACH[allowed]


def _version(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        found = value.get("version")
        return found if isinstance(found, str) else None
    if isinstance(value, list) and len(value) == 1:
        return _version(value[0])
    return None


def _unsatisfied(
    lock: Manifest, current: Manifest, matrix: Matrix, today: datetime.date
) -> Iterable[Finding]:
    """Yield errors that the lock's image meets on this machine and did not meet on its own."""
    from envlock.rules.engine import run

    if current.driver == Driver() and not current.gpu and current.host == Host():
        return
    there = put_on(lock, current)
    known = {finding.identity for finding in run(lock, matrix, try_fixes=False).findings}
    for finding in run(there, matrix).findings:
        is_new = finding.severity == "error" and finding.identity not in known
        if is_new and not waived(lock.lock, finding, today):
            yield finding


def waived(policy: Lock, finding: Finding, today: datetime.date) -> bool:
    """Tell whether a waiver that still holds covers a finding."""
    return any(
        waiver.rule == finding.rule
        and (waiver.address is None or covers(waiver.address, finding.subject))
        and (waiver.until is None or today <= waiver.until)
        for waiver in policy.waiver
    )


def expired(policy: Lock, today: datetime.date) -> Iterable[Finding]:
    """Yield a finding for each waiver whose day has passed."""
    for waiver in policy.waiver:
        if waiver.until is not None and today > waiver.until:
            yield Finding(
                subject="lock.waiver",
                message=f"the waiver for {waiver.rule} ended on {waiver.until}: {waiver.reason}",
                evidence=(Evidence("lock.waiver", waiver.rule),),
                rule="waiver-expired",
                severity="error",
                layer="lock",
            )
