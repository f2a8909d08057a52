"""What rules yield and what a check comes to: findings, unknowns, and the evidence and fixes in them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Severity = Literal["error", "warning", "note"]
"""error: it cannot work; warning: it works until it does not; note: worth knowing."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
LAYERS = ("driver", "cuda", "gpu", "cudnn", "nccl", "framework", "package", "python", "os", "container",
          "environment", "fleet", "lock")  # fmt: skip
"""From what everything rests on to what rests on it: the order in which findings are told."""


class Evidence(msgspec.Struct, frozen=True):
    """A fact that a finding rests on: its address and value."""

    address: str
    value: Any


class Fix(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change that would remove a finding.

    ``to`` is what the fact should become, for people ("525.60.13 or newer") or as a specifier; ``value``
    is the plain value that is put at the address to try the fix on paper (``trial`` holds further
    addresses that move with it). A fix without a trial value cannot be tried and is advice only.
    """

    address: str
    to: str
    message: str
    trial: dict[str, Any] = {}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a stack."""

    subject: str
    """The address of the fact that is to blame."""
    message: str
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[Fix, ...] = ()
    source: str = ""
    rule: str = ""
    """Set by the engine, as are severity and layer where the rule leaves its defaults."""
    severity: Severity | Literal[""] = ""
    layer: str = ""
    breaks: bool = True
    """False for what is worth knowing and breaks nothing: never named as a cause."""
    quiet: bool = False
    """True for a defect of a rare use: told where a difference or an error text points to it, else counted."""
    rank: int = 0
    """Within one severity, lower is told earlier: a mere consequence takes a higher one."""
    defect: str = ""
    """Which of its subject's defects this is, where a rule knows several of one."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return what tells findings apart within a stack and across two: rule, subject and defect."""
        return (self.rule, self.subject, self.defect)


class Unknown(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question that a rule could not answer, and what it would need to know."""

    needs: str
    rule: str = ""


class Result(msgspec.Struct, frozen=True):
    """What a check comes to."""

    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...] = ()

    @property
    def verdict(self) -> str:
        """Return "problem" where an error or warning was found, "unknown" where a question stayed open."""
        if any(finding.severity != "note" for finding in self.findings):
            return "problem"
        return "unknown" if self.unknown else "fine"
