"""Results as GitHub annotations: workflow commands, one a line, that mark lines of a file in a pull request.

https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envlock.reports.problems import Problem, Source, of_story
from envlock.reports.style import safe

if TYPE_CHECKING:
    from envlock.reports.story import Story
    from envlock.rules.model import Severity

SHOWN = 10
"""Annotations of one severity that GitHub shows of one step; it drops the rest without a word."""

_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}


def render(story: Story, source: Source | None) -> str:
    """Render a check or a verify: annotations, then the answer in one plain line, and how to go on."""
    problems = of_story(story, source)
    lines: list[str] = []
    for severity in _COMMANDS:
        lines += _annotations([each for each in problems if each.severity == severity], source)
    lines.append(_plain(story.lead))
    if story.hint:
        lines.append(_plain(f"{story.hint[0]}: {story.hint[1]}"))
    return "\n".join(lines) + "\n"


def _annotations(problems: Sequence[Problem], source: Source | None) -> list[str]:
    if len(problems) <= SHOWN:
        return [_annotation(each, source) for each in problems]
    kept, rest = problems[: SHOWN - 1], problems[SHOWN - 1 :]
    named = "\n".join(each.message for each in rest)
    last = rest[0]._replace(message=f"{len(rest)} more:\n{named}", fixes=(), rule="and more")
    return [*(_annotation(each, source) for each in kept), _annotation(last, source)]


def _annotation(problem: Problem, source: Source | None) -> str:
    properties = {}
    if source:
        properties["file"] = source.path
        properties["line"] = str(problem.line or 1)
    properties["title"] = f"envlock: {problem.rule}"
    said = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_COMMANDS[problem.severity]} {said}::{_data(problem.details)}"


def _data(text: str) -> str:
    """Escape a command's message, as GitHub's own toolkit does; what a terminal would obey is replaced."""
    return safe(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    """Escape a value before the second "::"."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _plain(text: str) -> str:
    """Return a line that the runner takes for no command: "::" counts at its start, "##[" anywhere."""
    said = safe(text).strip().replace("##[", "## [")
    return re.sub(r"\A::", ": :", said)
