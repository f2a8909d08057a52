"""JUnit XML is well-formed whatever stands in it, and has a case a rule or drifted address."""

from xml.etree import ElementTree

import pytest

from envlock.reports import junit
from envlock.reports.problems import Source
from envlock.rules.engine import stack_rules
from tests.reports.ci_support import hostile_checks, line_with, many_drifts, source, verify_story
from tests.reports.support import check_story


def suite(told, place):
    root = ElementTree.fromstring(junit.render(told, place))
    assert root.tag == "testsuites"
    (found,) = root
    cases = found.findall("testcase")
    assert int(found.get("tests")) == int(root.get("tests")) == len(cases)
    assert int(found.get("failures")) == sum(case.find("failure") is not None for case in cases)
    assert int(found.get("skipped")) == sum(case.find("skipped") is not None for case in cases)
    return {(case.get("classname"), case.get("name")): case for case in cases}


def test_drift_is_a_failed_case_with_its_place():
    cases = suite(verify_story(), source())
    case = cases["envlock.drift", "package.pip.nvidia-nccl-cu12"]
    line = line_with("nvidia-nccl-cu12 =")
    assert (case.get("file"), case.get("line")) == ("examples/train-h100.toml", str(line))
    failure = case.find("failure")
    assert "locked as 2.27.5, is 2.28.9" in failure.get("message")
    assert failure.text.startswith(f"examples/train-h100.toml:{line}: ")


def test_a_match_is_a_passed_case_since_readers_take_an_empty_suite_for_an_error():
    cases = suite(verify_story(now="train-h100"), source())
    assert list(cases) == [("envlock.drift", "everything is as locked")]


def test_a_check_has_a_case_for_every_rule():
    cases = suite(check_story(), source("old-driver"))
    assert [name for _, name in cases] == [rule.name for rule in stack_rules()]
    broken = [name for (_, name), case in cases.items() if case.find("failure") is not None]
    assert broken == ["driver-too-old-for-cuda"]
    assert "fix: install NVIDIA driver" in cases["envlock.driver", broken[0]].find("failure").text


def test_a_note_fails_nothing_and_what_is_not_judged_is_skipped():
    from envlock.rules.model import Unknown

    told = check_story()
    import msgspec

    note = msgspec.structs.replace(told.findings[0][1], severity="note")
    told = told._replace(findings=(("", note),), unknown=(Unknown("a row for CUDA 99", "gpu-hidden"),))
    cases = suite(told, None)
    case = cases["envlock.driver", "driver-too-old-for-cuda"]
    assert case.find("failure") is None and "470.256.02" in case.find("system-out").text
    assert cases["envlock.gpu", "gpu-hidden"].find("skipped").get("message") == "a row for CUDA 99"


def test_what_could_not_be_seen_is_skipped_with_the_reason():
    from envlock.compare.model import Unseen

    told = verify_story(now="train-h100")._replace(unobserved=(Unseen("driver", "no GPU here", "now"),))
    cases = suite(told, source())
    assert cases["envlock.unobserved", "driver (now)"].find("skipped").get("message") == "no GPU here"


@pytest.mark.parametrize(("told", "place"), hostile_checks(), ids=lambda each: getattr(each, "command", ""))
def test_hostile_text_stays_text(told, place):
    cases = suite(told, place)
    failed = [case for case in cases.values() if case.find("failure") is not None]
    assert failed
    tags = {element.tag for case in cases.values() for element in case.iter()}
    assert tags <= {"testcase", "failure", "skipped", "system-out"}


@pytest.mark.parametrize("code", [0, 1, 8, 0x0B, 0x1F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF])
def test_what_xml_cannot_hold_is_replaced(code):
    told, _ = many_drifts(1)
    place = Source(f"a{chr(code)}]]>.toml", "")
    (case,) = suite(told, place).values()
    assert case.get("file") == "a\ufffd]]>.toml"
    assert case.find("failure").text.startswith("a\ufffd]]>.toml:1: ")
    junit.render(told, place).encode()
