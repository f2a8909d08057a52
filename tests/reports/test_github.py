"""Annotations are read back as the runner reads them, hostile text included."""

import re

import pytest

from envlock.reports import github, story
from envlock.reports.problems import Source
from tests.reports.ci_support import hostile_checks, line_with, many_drifts, source, verify_story
from tests.reports.support import check_story

COMMANDS = ("error", "warning", "notice")


def unescape(text, *, value):
    pairs = [("%0D", "\r"), ("%0A", "\n"), *([("%3A", ":"), ("%2C", ",")] if value else []), ("%25", "%")]
    for code, character in pairs:
        text = text.replace(code, character)
    return text


def runner(line):
    """Read a line as the Actions runner does: (command, properties, message), None for a line of the log."""
    line = line.strip()
    if "##[" in line and not line.startswith("::"):
        return ("##", {}, line)
    if not line.startswith("::"):
        return None
    head, _, message = line[2:].partition("::")
    command, _, rest = head.partition(" ")
    properties = {}
    for part in filter(None, rest.split(",")):
        key, _, held = part.partition("=")
        properties[key.strip()] = unescape(held, value=True)
    return command, properties, unescape(message, value=False)


def read(text):
    return [runner(line) for line in text.split("\n")]


def test_drift_is_marked_on_the_lock_s_own_line():
    first, *rest = read(github.render(verify_story(), source()))
    assert first[:2] == (
        "error",
        {
            "file": "examples/train-h100.toml",
            "line": str(line_with("nvidia-nccl-cu12 =")),
            "title": "envlock: drift",
        },
    )
    assert "nvidia-nccl-cu12: locked as 2.27.5, is 2.28.9" in first[2] and "library.nccl" in first[2]
    assert rest == [None, None, None]


def test_a_finding_is_marked_with_its_fixes_below_it():
    (first, *_) = read(github.render(check_story(), source("old-driver")))
    command, properties, message = first
    assert (command, properties["title"]) == ("error", "envlock: driver-too-old-for-cuda")
    assert properties["line"] == str(line_with("version = ", "old-driver"))
    assert "\nfix: install NVIDIA driver 525.60.13 or newer" in message


def test_a_finding_of_a_live_machine_stands_in_no_file():
    (first, *_) = read(github.render(check_story(), None))
    assert set(first[1]) == {"title"}


def test_a_match_is_said_and_marks_nothing():
    text = github.render(verify_story(now="train-h100"), source())
    assert text == "Yes: it matches examples/train-h100.toml.\n"


@pytest.mark.parametrize(("count", "shown"), [(10, 10), (11, 10), (300, 10)])
def test_what_github_would_drop_is_told_in_the_last_annotation(count, shown):
    told, place = many_drifts(count)
    commands = [each for each in read(github.render(told, place)) if each]
    assert len(commands) == shown
    said = "\n".join(message for _, _, message in commands)
    assert all(f"p{number:04}: locked as 1, is 2" in said for number in range(count))


@pytest.mark.parametrize(("told", "place"), hostile_checks(), ids=lambda each: getattr(each, "command", ""))
def test_hostile_text_gives_no_command_and_no_property(told, place):
    found = [each for each in read(github.render(told, place)) if each]
    assert found
    for command, properties, message in found:
        assert command in COMMANDS and set(properties) == {"file", "line", "title"}, (command, properties)
        assert properties["file"] == place.path
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", message)


@pytest.mark.parametrize("evil", ["::set-env name=A::b", "  ::add-mask::a", "x ##[add-mask]secret"])
def test_a_plain_line_is_never_a_command(evil):
    told = check_story()._replace(lead=evil, hint=(evil, evil), findings=())
    assert [each for each in read(github.render(told, None)) if each] == []


def test_line_ends_and_percent_signs_come_back():
    told = check_story()
    role, finding = told.findings[0]
    import msgspec

    evil = msgspec.structs.replace(finding, message="100% :: a,b:c %0A", rule="r,u:l%e")
    told = told._replace(findings=((role, evil),))
    (first, *_) = read(github.render(told, Source("a,b:c%2C.toml", "")))
    assert first[1] == {"file": "a,b:c%2C.toml", "line": "1", "title": "envlock: r,u:l%e"}
    assert first[2].startswith("100% :: a,b:c %0A\nfix: ")
    assert isinstance(told, story.Story)
