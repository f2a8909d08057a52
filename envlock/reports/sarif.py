"""Results as SARIF, for GitHub code scanning and other viewers: one run, its rules, one result a problem.

Static Analysis Results Interchange Format 2.1.0, OASIS Standard with errata 01; GitHub's subset:
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from envlock.reports.problems import DRIFT, Problem, Source, explanation, fingerprints, of_story
from envlock.reports.style import safe

if TYPE_CHECKING:
    from envlock.reports.story import Story

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RESULTS_LIMIT = 5000
"""Results of one run that GitHub takes in."""

_LINK = re.compile(r"https://[^\s<>\"'`)\]]+")


def render(story: Story, source: Source | None) -> str:
    """Render a check or a verify as a SARIF log."""
    from envlock._version import __version__

    problems = of_story(story, source)[:RESULTS_LIMIT]
    names = list(dict.fromkeys(problem.rule for problem in problems))
    marks = fingerprints(problems, source.path if source else "")
    run = {
        "tool": {
            "driver": {
                "name": "envlock",
                "semanticVersion": __version__,
                "rules": [_rule(name, problems) for name in names],
            }
        },
        # What stands before the last slash is the category that keeps several locks of one repository apart.
        "automationDetails": {"id": f"envlock/{story.command}/{source.path if source else 'live'}/"},
        "columnKind": "utf16CodeUnits",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(story)}],
        "results": [
            _result(problem, names.index(problem.rule), mark, source)
            for problem, mark in zip(problems, marks, strict=True)
        ],
    }
    # Characters outside ASCII as escapes: the file is the same in whatever encoding it is saved.
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(name: str, problems: Sequence[Problem]) -> dict[str, Any]:
    """Describe a rule by what `envlock explain` says of it."""
    said = explanation(name) or name
    first, _, _ = said.partition("\n\n")
    level = next(problem.severity for problem in problems if problem.rule == name)
    rule: dict[str, Any] = {
        "id": name,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "shortDescription": {"text": " ".join(first.split())},
        "fullDescription": {"text": " ".join(said.split())},
        "help": {"text": said, "markdown": said},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["drift" if name == DRIFT else "compatibility"]},
    }
    link = _LINK.search(said)
    if link:
        rule["helpUri"] = link[0].rstrip(".,;")
    return rule


def _result(problem: Problem, rule: int, mark: str, source: Source | None) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": problem.address, "kind": "element"}],
    }
    if source:
        location["physicalLocation"] = {
            "artifactLocation": _artifact(source.path),
            "region": {"startLine": problem.line or 1},
        }
    return {
        "ruleId": problem.rule,
        "ruleIndex": rule,
        "level": problem.severity,
        "message": {"text": _message(problem.details)},
        "locations": [location],
        # GitHub compares the second one only; both stay when lines move and versions change.
        "partialFingerprints": {"envlockAddress/v1": mark, "primaryLocationLineHash": f"{mark[:16]}:1"},
    }


def _artifact(path: str) -> dict[str, str]:
    """Return a path as a URI: below the repository's root, or absolute where it lies elsewhere."""
    uri = quote(path.encode("utf-8", "surrogateescape"))
    return {"uri": "file://" + uri} if path.startswith("/") else {"uri": uri, "uriBaseId": "%SRCROOT%"}


def _message(text: str) -> str:
    """Return plain text in which nothing is a placeholder (section 3.11.5) or an embedded link (3.11.6)."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _notifications(story: Story) -> list[dict[str, Any]]:
    """Tell what could not be judged or seen; it is no result."""
    unknown = [f"not judged: {safe(each.needs)} ({each.rule})" for each in story.unknown]
    unseen = [f"not seen: {safe(each.address)}: {safe(each.reason)}" for each in story.unobserved]
    return [{"level": "note", "message": {"text": _message(text)}} for text in [*unknown, *unseen]]
