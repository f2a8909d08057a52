"""From a log to its causes: what the known errors in it point to, and what a stack confirms of that or rules out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.compare.logs import blocks, excerpt
from envlock.compare.symptoms import import_names, literals_of, project_address, projects_by_import
from envlock.manifest.address import covers, facts
from envlock.rules.engine import FRAMEWORK, PACKAGES, FleetRule, all_rules, find_rule, run
from envlock.rules.model import Finding
from envlock.rules.stack import Stack

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest
    from envlock.matrix.loader import Matrix, Row
    from envlock.matrix.patterns import Match

SHORTEST = 8
"""Characters that the error text of a breakage has to exceed: less would be found in any log."""

KINDS_KEPT = 64
"""Different known errors of one log that are kept; more is no log."""


class Symptom(NamedTuple):
    """A known error that a log holds."""

    line: int
    """The number of the first line that holds it, from 1."""
    text: str
    """That line, cut."""
    meaning: str
    rules: tuple[str, ...]
    addresses: tuple[str, ...]
    source: str
    times: int = 1
    follows: bool = False
    """Whether it only tells of a failure elsewhere: another rank's, a worker's."""


class Pointed(NamedTuple):
    """A rule that a log points to, by which error, and for an open one what the stack lacks to decide it."""

    rule: str
    symptom: Symptom
    missing: tuple[str, ...] = ()


class Explanation(NamedTuple):
    """What a log comes to; without a stack only the symptoms and what they point to."""

    symptoms: tuple[Symptom, ...]
    lines: int
    pointed: tuple[Pointed, ...]
    confirmed: tuple[tuple[Finding, Symptom], ...] = ()
    ruled_out: tuple[Pointed, ...] = ()
    undecided: tuple[Pointed, ...] = ()
    unobserved: tuple[tuple[str, str], ...] = ()
    """What the stack could not see of the missing facts, and why."""
    facts: tuple[tuple[str, Any], ...] = ()
    """The facts of the stack that the errors point to, address and value."""
    others: tuple[Finding, ...] = ()
    """What else is wrong with the stack, without a known error in the log that points to it."""

    @property
    def verdict(self) -> str:
        """Return "problem" where a cause is confirmed, "unknown" where that stays open, else "fine"."""
        if self.confirmed:
            return "problem"
        return "unknown" if self.undecided or not self.symptoms else "fine"


def explain(lines: Iterable[str], matrix: Matrix, manifest: Manifest | None = None) -> Explanation:
    """Read a log in a stream and say what it points to and, given a stack, which of that is the case."""
    symptoms, count = read(lines, matrix)
    pointed = _pointed(symptoms)
    if manifest is None:
        return Explanation(symptoms, count, pointed)
    findings = run(manifest, matrix).findings
    confirmed = _confirmed(findings, symptoms)
    found = {finding.rule for finding, _ in confirmed}
    open_: list[Pointed] = []
    ruled_out: list[Pointed] = []
    for each in pointed:
        if each.rule not in found:
            missing = lacking(each.rule, manifest)
            (open_ if missing else ruled_out).append(each._replace(missing=missing))
    stack = Stack(manifest)
    reasons = {address: stack.unobserved(address) for each in open_ for address in each.missing}
    unobserved = tuple((address, reason) for address, reason in reasons.items() if reason)
    held = facts(manifest)
    named = dict.fromkeys(address for symptom in symptoms for address in symptom.addresses)
    return Explanation(
        symptoms,
        count,
        pointed,
        confirmed,
        tuple(ruled_out),
        tuple(open_),
        unobserved,
        tuple((address, held[address]) for address in named if address in held),
        tuple(each for each in findings if each.severity != "note" and not _among(each, confirmed)),
    )


def read(lines: Iterable[str], matrix: Matrix) -> tuple[tuple[Symptom, ...], int]:
    """Return the known errors of a log and how many lines it has.

    In the order of their first line; those that only follow from another error come last, wherever they stand:
    the ranks of a job write into one log as they come.
    """
    from envlock.matrix.patterns import match_line

    projects = projects_by_import(import_names(matrix))
    breakages = _breakages(matrix)
    found: dict[tuple[str, ...], Symptom] = {}
    count = 0
    literals = {literal for row in matrix.rows("errors", "error") for literal in literals_of(row)}
    for number, line in _suspect(lines, sorted(literals | breakages.keys())):
        count = number
        if line is None:
            continue
        hits = [(_of_error(match, projects), match.start) for match in match_line(matrix, line)]
        hits += [(hit, line.index(error)) for error, hit in breakages.items() if error in line]
        for hit, start in hits:
            key = (hit.meaning, hit.source, *hit.addresses)
            if key in found:
                found[key] = found[key]._replace(times=found[key].times + 1)
            elif len(found) < KINDS_KEPT:
                found[key] = hit._replace(line=number, text=excerpt(line, start))
    return tuple(sorted(found.values(), key=lambda each: each.follows)), count


def _suspect(lines: Iterable[str], literals: Sequence[str]) -> Iterator[tuple[int, str | None]]:
    """Yield the lines that hold a literal, with their number from 1; and after each block its last number with None.

    A long log says nothing of note for megabytes: a literal is sought in a block at a time, not in every line.
    """
    for block in blocks(lines):
        text = "\n".join(line for _, line in block)
        here = [literal for literal in literals if literal in text]
        if here:
            yield from ((number, line) for number, line in block if any(literal in line for literal in here))
        yield block[-1][0], None


def _of_error(match: Match, projects: Mapping[str, str]) -> Symptom:
    row = match.row
    addresses = tuple(project_address(address, projects) for address in match.addresses)
    return Symptom(0, "", row.get("meaning", ""), tuple(row.get("rules", ())), addresses, row["source"],
                   follows=row.get("follows", False))  # fmt: skip


def _breakages(matrix: Matrix) -> dict[str, Symptom]:
    """Return the error texts of known breakages; several pairs of packages may show themselves by one text."""
    rows: dict[str, list[Row]] = {}
    for row in matrix.rows("breakages", "breakage"):
        if len(row["error"]) > SHORTEST:
            rows.setdefault(row["error"], []).append(row)
    return {error: _of_breakages(alike) for error, alike in rows.items()}


def _of_breakages(rows: Sequence[Row]) -> Symptom:
    names = dict.fromkeys(
        name for row in rows for name in (row.get("blame", row["with"]), row["with"], row["package"])
    )
    addresses = tuple(f"package.{manager}.{name}" for name in names for manager in ("pip", "conda"))
    pairs = [f"{row['package']} {row['affected']} with {row['with']} {row['with_versions']}" for row in rows]
    more = f" or {len(pairs) - 3} other pairs" if len(pairs) > 3 else ""
    meaning = f"known not to work: {' or '.join(pairs[:3])}{more}"
    return Symptom(0, "", meaning, ("known-breakage",), addresses, rows[0]["source"])


def _pointed(symptoms: Sequence[Symptom]) -> tuple[Pointed, ...]:
    """Return each rule once, by the first error that names it, in the order of the errors."""
    names = {rule.name for rule in all_rules()}
    found: dict[str, Pointed] = {}
    for symptom in symptoms:
        for rule in symptom.rules:
            if rule in names:
                found.setdefault(rule, Pointed(rule, symptom))
    return tuple(found.values())


def _confirmed(
    findings: Sequence[Finding], symptoms: Sequence[Symptom]
) -> tuple[tuple[Finding, Symptom], ...]:
    """Return the findings that an error points to: those at an address that it names before the rest.

    A rule that judges every package finds many things; where the error names a package and one of the
    rule's findings is about it, the others are not what the log speaks of.
    """
    found: dict[int, tuple[bool, Finding, Symptom]] = {}
    for symptom in symptoms:
        about = {number for number, each in enumerate(findings) if _about(each, symptom.addresses)}
        by_rule = [number for number, each in enumerate(findings) if each.rule in symptom.rules]
        both = [number for number in by_rule if number in about]
        for number in both or by_rule:
            found.setdefault(number, (number not in about, findings[number], symptom))
    ordered = sorted(found.items(), key=lambda item: (item[1][0], item[0]))
    return tuple((finding, symptom) for _, (_, finding, symptom) in ordered)


def _among(finding: Finding, confirmed: Iterable[tuple[Finding, Symptom]]) -> bool:
    return any(finding is each for each, _ in confirmed)


def _about(finding: Finding, addresses: Sequence[str]) -> bool:
    subjects = (finding.subject, *(each.address for each in finding.evidence))
    return any(
        covers(address, subject) or covers(subject, address) for address in addresses for subject in subjects
    )


_OF_LAYER = {
    "driver": ("driver.version|driver.cuda|driver.kernel_module",),
    "cuda": (FRAMEWORK, "library"),
    "gpu": ("gpu", FRAMEWORK),
    "cudnn": ("library.cudnn|package.pip.nvidia-cudnn-*", FRAMEWORK),
    "nccl": ("library.nccl|package.pip.nvidia-nccl-*", FRAMEWORK),
    "framework": (FRAMEWORK,),
    "package": (PACKAGES,),
    "python": ("python.version|python.abi",),
    "os": ("os",),
    "container": ("container",),
    "environment": ("environ",),
}
"""The facts that the rules of a layer need, where they name none of their own (``Rule.needs``)."""


def lacking(rule: str, manifest: Manifest) -> tuple[str, ...]:
    """Return the addresses of facts that a rule would need and that a stack neither has nor knows to be absent."""
    known = find_rule(rule)
    if isinstance(known, FleetRule):
        return ("the other nodes (envlock fleet diff)",)
    needs = known.needs or _OF_LAYER.get(known.layer, ())
    have = facts(manifest)
    have.update((f"requires.{name}", True) for name in manifest.requires)
    stack = Stack(manifest)
    missing = []
    for group in needs:
        addresses = group.split("|")
        if any(_held(address, have) for address in addresses):
            continue
        if stack.partial or any(_unseen(stack, address) for address in addresses):
            missing.append(addresses[0])
    return tuple(missing)


def _held(wanted: str, have: Iterable[str]) -> bool:
    return any(covers(wanted, address) for address in have)


def _unseen(stack: Stack, address: str) -> bool:
    plain = address.partition(".*")[0]
    return stack.unobserved(plain) is not None
