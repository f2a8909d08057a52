"""Code Quality entries hold what GitLab asks for, with fingerprints that are each other's own."""

import json

from envlock.reports import gitlab
from tests.reports.ci_support import hostile_checks, line_with, source, verify_story
from tests.reports.support import check_story


def test_an_entry_has_what_gitlab_requires():
    (entry,) = json.loads(gitlab.render(verify_story(), source()))
    assert entry.pop("fingerprint")
    assert entry == {
        "description": "package.pip.nvidia-nccl-cu12: locked as 2.27.5, is 2.28.9; with it moved library.nccl",
        "check_name": "drift",
        "severity": "critical",
        "location": {
            "path": "examples/train-h100.toml",
            "lines": {"begin": line_with("nvidia-nccl-cu12 =")},
        },
    }


def test_severities_are_gitlab_s_and_fingerprints_unique():
    for told, place in [(check_story(), None), *hostile_checks()]:
        entries = json.loads(gitlab.render(told, place))
        assert entries and {entry["severity"] for entry in entries} <= {"info", "major", "critical"}
        assert len({entry["fingerprint"] for entry in entries}) == len(entries)


def test_a_match_is_an_empty_list():
    assert json.loads(gitlab.render(verify_story(now="train-h100"), source())) == []
