"""Results as GitLab's Code Quality report, which marks lines of a file in a merge request.

https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from envlock.reports.problems import Source, fingerprints, of_story

if TYPE_CHECKING:
    from envlock.reports.story import Story

_SEVERITIES = {"error": "critical", "warning": "major", "note": "info"}


def render(story: Story, source: Source | None) -> str:
    """Render a check or a verify; where no file of the repository is meant, "." stands for it."""
    problems = of_story(story, source)
    path = source.path if source else "."
    marks = fingerprints(problems, path)
    entries = [
        {
            "description": problem.message,
            "check_name": problem.rule,
            "fingerprint": mark,
            "severity": _SEVERITIES[problem.severity],
            "location": {"path": path, "lines": {"begin": problem.line or 1}},
        }
        for problem, mark in zip(problems, marks, strict=True)
    ]
    return json.dumps(entries, indent=2) + "\n"
