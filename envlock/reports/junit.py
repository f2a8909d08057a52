"""Results as JUnit XML, which GitLab, Jenkins and others show beside the tests: a case a rule or drifted address.

There is no standard; this keeps to what the readers agree on (https://github.com/testmoapp/junitxml): suites,
cases with a class name, one failure or a skip in each, no times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from envlock.reports.problems import DRIFT, Problem, Source, of_story
from envlock.reports.style import safe

if TYPE_CHECKING:
    from envlock.reports.story import Story

_ILLEGAL = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""What XML 1.0 (section 2.2) holds in no form, not even as a reference; and what a terminal may obey."""


class Case(NamedTuple):
    """One test case: passed where it holds neither failures nor a reason why it was skipped."""

    group: str
    name: str
    failures: tuple[Problem, ...] = ()
    skipped: str = ""
    notes: tuple[Problem, ...] = ()
    """What is worth knowing and fails nothing."""


def render(story: Story, source: Source | None) -> str:
    """Render a check (a case each rule) or a verify (a case each drifted address and broken rule)."""
    problems = of_story(story, source)
    cases = list(_rules(story, problems) if story.command == "check" else _lock(story, problems))
    name = f"envlock {story.command}" + (f" {source.path}" if source else "")
    failed = sum(bool(case.failures) for case in cases)
    skipped = sum(bool(case.skipped and not case.failures) for case in cases)
    counts = f'tests="{len(cases)}" failures="{failed}" errors="0"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="envlock" {counts}>',
        f'  <testsuite name={_value(name)} {counts} skipped="{skipped}">',
    ]
    for case in cases:
        lines += _case(case, source)
    return "\n".join([*lines, "  </testsuite>", "</testsuites>"]) + "\n"


def _rules(story: Story, problems: tuple[Problem, ...]) -> Iterator[Case]:
    """Yield every rule of one stack in its order: broken, not judged, or kept."""
    from envlock.rules.engine import stack_rules

    for rule in stack_rules():
        own = [problem for problem in problems if problem.rule == rule.name]
        needs = "; ".join(safe(each.needs) for each in story.unknown if each.rule == rule.name)
        yield _sorted_out(f"envlock.{rule.layer}", rule.name, own, needs)


def _lock(story: Story, problems: tuple[Problem, ...]) -> Iterator[Case]:
    """Yield what drifted, what the machine breaks, and what could not be seen; or that all is as locked."""
    drift = [problem for problem in problems if problem.rule == DRIFT]
    for problem in drift:
        yield Case("envlock.drift", problem.address, (problem,))
    if not drift:
        yield Case("envlock.drift", "everything is as locked")
    for rule in dict.fromkeys(problem.rule for problem in problems if problem.rule != DRIFT):
        yield _sorted_out("envlock.rules", rule, [each for each in problems if each.rule == rule], "")
    for unseen in story.unobserved:
        side = f" ({safe(unseen.side)})" if unseen.side else ""
        yield Case("envlock.unobserved", safe(unseen.address) + side, skipped=safe(unseen.reason))
    for number, unknown in enumerate(story.unknown, 1):
        yield Case("envlock.unknown", f"{unknown.rule} {number}", skipped=safe(unknown.needs))


def _sorted_out(group: str, name: str, problems: list[Problem], needs: str) -> Case:
    failures = tuple(problem for problem in problems if problem.severity != "note")
    notes = tuple(problem for problem in problems if problem.severity == "note")
    return Case(group, name, failures, needs, notes)


def _case(case: Case, source: Source | None) -> Iterator[str]:
    place = f" file={_value(source.path)}" if source else ""
    line = case.failures[0].line if case.failures else None
    place += f' line="{line}"' if line else ""
    head = f"    <testcase classname={_value(case.group)} name={_value(case.name)}{place}"
    if not (case.failures or case.skipped or case.notes):
        yield head + "/>"
        return
    yield head + ">"
    if case.failures:
        first = case.failures[0]
        text = "\n\n".join(_where(each, source) + each.details for each in case.failures)
        yield f"      <failure type={_value(first.severity)} message={_value(first.message)}>{_text(text)}</failure>"
    elif case.skipped:
        yield f"      <skipped message={_value(case.skipped)}/>"
    if case.notes:
        yield f"      <system-out>{_text(chr(10).join(each.details for each in case.notes))}</system-out>"
    yield "    </testcase>"


def _where(problem: Problem, source: Source | None) -> str:
    return f"{source.path}:{problem.line or 1}: " if source else ""


def _text(text: str) -> str:
    return escape(_ILLEGAL.sub("\ufffd", text))


def _value(text: str) -> str:
    return quoteattr(_ILLEGAL.sub("\ufffd", text))
