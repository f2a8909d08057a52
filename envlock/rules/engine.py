"""Runs the rules over a stack, orders what they find, and keeps only fixes that work on paper."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from envlock.errors import EnvlockError
from envlock.manifest.address import get, replace
from envlock.manifest.model import Manifest
from envlock.rules.model import LAYERS, SEVERITIES, Evidence, Finding, Fix, Result, Severity, Unknown
from envlock.rules.stack import Stack

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix

Check = Callable[[Stack, Any], Iterator["Finding | Unknown"]]
FleetCheck = Callable[[Sequence["Kind"], Any], Iterator["Odd"]]

MODULES = ("driver", "cuda", "gpu", "cudnn", "nccl", "cpu_builds", "companions", "extensions", "framework",
           "framework_cuda", "package", "python", "os", "container", "environment", "fleet")  # fmt: skip
"""The modules of this folder that hold rules: one a layer, and one a subject of what there is to say of frameworks."""

FRAMEWORK = "framework|package.pip.torch|package.conda.pytorch|package.pip.jax|package.pip.tensorflow"
PACKAGES = "package.pip|package.conda"
"""Facts that many rules need, as ``Rule.needs`` names them: what says which frameworks and packages there are."""

FIX_TRIALS = 24
"""Fixes tried on paper at most in one check: each is a run of all rules."""


class Kind(NamedTuple):
    """Nodes of one fleet that hold the same stack."""

    names: tuple[str, ...]
    stack: Stack


class Odd(NamedTuple):
    """What is wrong with a fleet, and the nodes that are to blame."""

    names: tuple[str, ...]
    finding: Finding


class Rule(NamedTuple):
    """A rule: its name, where it belongs, how bad its findings are by default, and its function."""

    name: str
    layer: str
    severity: Severity
    check: Check
    needs: tuple[str, ...] = ()
    """The facts without which it says nothing, alternatives with "|" between; () for those of its layer."""

    @property
    def explanation(self) -> str:
        """Return the docstring: what it means, how it shows, how to fix it, source."""
        return inspect.getdoc(self.check) or ""


class FleetRule(NamedTuple):
    """A rule about many machines at once; one stack alone breaks none."""

    name: str
    layer: str
    severity: Severity
    check: FleetCheck

    @property
    def explanation(self) -> str:
        """Return the docstring: what it means, how it shows, how to fix it, source."""
        return inspect.getdoc(self.check) or ""


class UnknownRuleError(EnvlockError):
    """A rule name that envlock does not have."""


def rule(
    name: str, layer: str, severity: Severity = "error", needs: tuple[str, ...] = ()
) -> Callable[[Check], Rule]:
    """Make a function a rule."""

    def make(check: Check) -> Rule:
        return Rule(name, layer, severity, check, needs)

    return make


def fleet_rule(name: str, severity: Severity = "error") -> Callable[[FleetCheck], FleetRule]:
    """Make a function of many machines a rule."""

    def make(check: FleetCheck) -> FleetRule:
        return FleetRule(name, "fleet", severity, check)

    return make


@lru_cache(maxsize=1)
def all_rules() -> tuple[Rule | FleetRule, ...]:
    """Return every rule, layer by layer, in the order of its module."""
    rules: list[Rule | FleetRule] = []
    for module in MODULES:
        names = vars(importlib.import_module(f"envlock.rules.{module}"))
        rules += [value for value in names.values() if isinstance(value, (Rule, FleetRule))]
    return tuple(rules)


@lru_cache(maxsize=1)
def stack_rules() -> tuple[Rule, ...]:
    """Return the rules that judge one stack."""
    return tuple(each for each in all_rules() if isinstance(each, Rule))


def find_rule(name: str) -> Rule | FleetRule:
    """Return the rule of that name; raises UnknownRuleError naming the nearest ones."""
    rules = {each.name: each for each in all_rules()}
    if name in rules:
        return rules[name]
    from difflib import get_close_matches

    near = get_close_matches(name, rules, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `envlock explain` lists them"
    raise UnknownRuleError(f"no rule is named {name!r}{hint}")


def run(manifest: Manifest, matrix: Matrix, *, try_fixes: bool = True, rare: bool = True) -> Result:
    """Run every rule over a manifest; findings come worst and deepest first, each with fixes that work.

    A fix that was not tried on paper is not told: without ``try_fixes`` findings come without any, and without ``rare``
    the quiet ones do, which are not shown unless asked for.
    """
    findings, unknown = _run(manifest, matrix)
    if try_fixes:
        findings = _with_working_fixes(manifest, matrix, findings, rare)
    else:
        findings = [msgspec.structs.replace(finding, fixes=()) for finding in findings]
    return Result(tuple(findings), tuple(unknown))


def _run(manifest: Manifest, matrix: Matrix) -> tuple[list[Finding], list[Unknown]]:
    stack = Stack(manifest)
    findings: list[Finding] = []
    unknown: list[Unknown] = []
    for each in stack_rules():
        for outcome in each.check(stack, matrix):
            if isinstance(outcome, Unknown):
                unknown.append(msgspec.structs.replace(outcome, rule=each.name))
            else:
                findings.append(_with_what_is_there(_named(outcome, each), manifest))
    findings.sort(key=_order)
    return findings, unknown


def run_fleet(kinds: Sequence[Kind], matrix: Matrix) -> tuple[Odd, ...]:
    """Run the rules about many machines over the kinds of stack among them; what is found comes worst first."""
    found = [
        odd._replace(finding=_named(odd.finding, each))
        for each in all_rules()
        if isinstance(each, FleetRule)
        for odd in each.check(kinds, matrix)
    ]
    # A rule yields in order of importance; a stable sort keeps that within one severity.
    return tuple(sorted(found, key=lambda odd: SEVERITIES.index(odd.finding.severity or "error")))


def _named(finding: Finding, by: Rule | FleetRule) -> Finding:
    """Fill in what the rule's registration knows; a finding may state a severity of its own."""
    severity = finding.severity or by.severity
    return msgspec.structs.replace(finding, rule=by.name, severity=severity, layer=finding.layer or by.layer)


def _with_what_is_there(finding: Finding, manifest: Manifest) -> Finding:
    """Have evidence hold the package itself where a rule gave no version: one of unknown version is not absent."""
    if not any(_lacks_version(each) for each in finding.evidence):
        return finding
    evidence = [
        Evidence(each.address, get(manifest, each.address)) if _lacks_version(each) else each
        for each in finding.evidence
    ]
    return msgspec.structs.replace(finding, evidence=tuple(evidence))


def _lacks_version(evidence: Evidence) -> bool:
    return evidence.value is None and evidence.address.startswith("package.")


def _order(finding: Finding) -> tuple[int, int, int, str]:
    return (
        SEVERITIES.index(finding.severity or "error"),
        finding.rank,
        LAYERS.index(finding.layer),
        finding.subject,
    )


def _with_working_fixes(
    manifest: Manifest, matrix: Matrix, findings: list[Finding], rare: bool
) -> list[Finding]:
    """Drop each fix that, tried on paper, leaves its finding or makes a new problem; smallest change first."""
    before = {finding.identity for finding in findings}
    left = FIX_TRIALS
    result = []
    for finding in findings:
        working: list[Fix] = []
        for fix in sorted(finding.fixes, key=lambda fix: len(fix.trial)):
            if left <= 0 or not fix.trial or (finding.quiet and not rare):
                continue
            left -= 1
            if _works(manifest, matrix, finding, fix, before):
                working.append(fix)
        result.append(msgspec.structs.replace(finding, fixes=tuple(working)))
    return result


def _works(
    manifest: Manifest, matrix: Matrix, finding: Finding, fix: Fix, before: set[tuple[str, str, str]]
) -> bool:
    try:
        fixed = replace(manifest, fix.trial)
    except msgspec.ValidationError:
        return False
    left = _run(fixed, matrix)[0]
    # A note is no reason to withhold a fix: it is worth knowing, and nothing breaks by it.
    after = {each.identity for each in left if each.severity != "note"}
    return finding.identity not in {each.identity for each in left} and not after - before


def still_finds(stack: Stack, matrix: Matrix, finding: Finding) -> bool:
    """Tell whether a finding's own rule still finds it in a changed stack."""
    found = find_rule(finding.rule)
    return isinstance(found, Rule) and any(
        isinstance(outcome, Finding)
        and (outcome.subject, outcome.defect) == (finding.subject, finding.defect)
        for outcome in found.check(stack, matrix)
    )
