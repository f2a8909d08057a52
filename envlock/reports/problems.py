"""What a CI system is told of a check or a verify: each problem with its rule, its place in a file, and its fix.

Annotations, SARIF, JUnit and Code Quality differ in form only; this is what they have in common.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from envlock.manifest.read import index_lines as lines_by_address
from envlock.reports.style import safe, show
from envlock.rules.model import Finding, Severity

if TYPE_CHECKING:
    from envlock.compare.model import Change
    from envlock.reports.story import Story

DRIFT = "drift"
FOLLOWERS_NAMED = 5
"""Changes that merely follow another one, named at most; the rest is counted."""

_LOCK_RULES = {
    DRIFT: "The stack is not what its lock says.\n\n"
    "A fact of the image differs from the lock, or moved further than `[lock.allow]` lets it.\n\n"
    "Fix: bring the environment back, or take the change into the lock with `envlock update`.",
    "waiver-expired": "A waiver's day has passed.\n\n"
    "What it silenced is judged again.\n\n"
    "Fix: solve what it stood for, or give the waiver in `[[lock.waiver]]` a new day and reason.",
}
"""Rules of the lock itself; all others explain themselves."""


class Problem(NamedTuple):
    """One thing that is wrong, or worth a note."""

    rule: str
    severity: Severity
    address: str
    message: str
    """One line, safe to print."""
    fixes: tuple[str, ...] = ()
    source: str = ""
    line: int | None = None
    """Line in the file, from 1; None where it stands in none."""

    @property
    def details(self) -> str:
        """Return the message, with each fix in a line below."""
        return "\n".join([self.message, *(f"fix: {fix}" for fix in self.fixes)])


class Source:
    """The file that the problems are about: its path as the CI system knows it, and its text."""

    def __init__(self, path: str, text: str, *, foreign: bool = False) -> None:
        self.path = path
        self._text = text
        self._foreign = foreign
        """True for another tool's lock."""

    @cached_property
    def _lines(self) -> dict[str, int]:
        return _lines_by_name(self._text) if self._foreign else lines_by_address(self._text)

    def line(self, address: str) -> int:
        """Return the line of an address, or that of the table above it, or the first."""
        if self._foreign:
            return self._lines.get(_plain(address.split(".", 2)[-1]), 1)
        while address:
            if address in self._lines:
                return self._lines[address]
            address = address.rpartition(".")[0]
        return 1


_ITEM = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME_KEYS = re.compile(rf"""^\s*(?:-\s+)?["']?name["']?\s*[:=]\s*["']?({_ITEM})""")
_FIRST_WORD = re.compile(rf"""^\s*(?:-\s+)?["']?({_ITEM}?)(?:\[[^\]]*\])?\s*(?:[=<>~!@;"']|$)""")
_ARCHIVE = re.compile(
    rf"/({_ITEM})-[^-/\s]+-[^-/\s]+(?:\.conda|\.tar\.bz2|\.whl)|/({_ITEM})-\d[^-/\s]*\.(?:tar|zip)"
)


def _lines_by_name(text: str) -> dict[str, int]:
    """Map each package to its line in another tool's lock; a key "name" outweighs a mere first word."""
    stated: dict[str, int] = {}
    guessed: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > 2000:
            continue
        found = _NAME_KEYS.match(line)
        if found:
            stated.setdefault(_plain(found[1]), number)
            continue
        found = _ARCHIVE.search(line) or _FIRST_WORD.match(line)
        if found:
            guessed.setdefault(_plain(next(filter(None, found.groups()))), number)
    return {**guessed, **stated}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def of_story(story: Story, source: Source | None, *, notes: bool = True) -> tuple[Problem, ...]:
    """Return the problems of a check or a verify: drift first, then findings in their order."""
    line: Callable[[str], int | None] = source.line if source else lambda _: None
    found = [*_drift(story.changes, line), *(_finding(finding, line) for _, finding in story.findings)]
    return tuple(problem for problem in found if notes or problem.severity != "note")


def _drift(changes: Sequence[Change], line: Callable[[str], int | None]) -> Iterable[Problem]:
    from envlock.reports.story import roots

    for root in roots(changes):
        change = root.change
        message = f"{safe(change.address)}: {_moved(change)}"
        if root.followers:
            named = ", ".join(safe(each.address) for each in root.followers[:FOLLOWERS_NAMED])
            more = len(root.followers) - FOLLOWERS_NAMED
            message += f"; with it moved {named}{f' and {more} more' if more > 0 else ''}"
        yield Problem(DRIFT, "error", safe(change.address), message, line=line(change.address))


def _moved(change: Change) -> str:
    if change.before is None:
        return f"{show(change.after)} is there and not in the lock"
    if change.after is None:
        return f"locked as {show(change.before)}, and not there"
    kind = {"origin": "from another origin", "build": "another build", "digest": "with other content"}
    what = f" ({kind[change.kind]})" if change.kind in kind else ""
    return f"locked as {show(change.before)}, is {show(change.after)}{what}"


def _finding(finding: Finding, line: Callable[[str], int | None]) -> Problem:
    return Problem(
        finding.rule,
        finding.severity or "error",
        safe(finding.subject),
        safe(finding.message),
        tuple(safe(fix.message) for fix in finding.fixes),
        safe(finding.source),
        line(finding.subject),
    )


def explanation(rule: str) -> str:
    """Return what a rule means, in Markdown paragraphs; empty for a rule that is not known."""
    if rule in _LOCK_RULES:
        return _LOCK_RULES[rule]
    from envlock.rules.engine import UnknownRuleError, find_rule

    try:
        return find_rule(rule).explanation
    except UnknownRuleError:
        return ""


def fingerprints(problems: Iterable[Problem], path: str = "") -> list[str]:
    """Return what tells each problem from others and stays when lines or versions move: 64 hex digits.

    It rests on the file, the rule and the address; a further problem of the same ones is numbered.
    """
    seen: dict[tuple[str, str], int] = {}
    found = []
    for problem in problems:
        key = (problem.rule, problem.address)
        seen[key] = seen.get(key, 0) + 1
        text = "\0".join([path, *key, str(seen[key])])
        found.append(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    return found
