"""Rules are run, their findings put in order and their fixes tried; odd values, which are outside data, crash none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from envlock.manifest.model import Driver, Manifest, to_plain
from envlock.manifest.read import load, loads
from envlock.rules import engine
from envlock.rules.engine import run
from envlock.rules.model import Evidence, Finding, Fix, Result, Unknown
from envlock.rules.stack import Stack
from tests.cli.support import EXAMPLES
from tests.rules.support import matrix

ODD = (
    "",
    " ",
    "N/A",
    "1",
    "12.",
    "sm_",
    "9.0a",
    "٣.١",
    "１２.４",
    "²",
    "1!2",
    "9" * 300,
    "cuda>=12.x brand=",
)


def replaced(value: Any, text: str) -> Any:
    """Return a plain value with every text in it replaced; keys stay."""
    if isinstance(value, dict):
        return {key: replaced(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, text) for each in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    "section", ["driver", "gpu", "os", "python", "framework", "package", "library", "requires"]
)
def test_odd_text_in_a_section_costs_findings_at_most(section: str, text: str) -> None:
    plain = to_plain(load(str(EXAMPLES / "train-h100.toml")))
    plain["toolkit"] = [{"version": "12.8.1", "path": "/usr/local/cuda", "active": True}]
    plain[section] = replaced(plain[section], text)
    run(msgspec.convert(plain, Manifest), matrix())


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    ("section", "key"), [("driver", "version"), ("gpu", "compute_capability"), ("torch", "cuda")]
)
def test_one_odd_fact_costs_findings_at_most(section: str, key: str, text: str) -> None:
    plain = to_plain(load(str(EXAMPLES / "old-driver.toml")))
    plain["toolkit"] = [{"version": "12.8.1", "path": "/usr/local/cuda", "active": True}]
    table = {"gpu": plain["gpu"][0], "torch": plain["framework"]["torch"]}.get(section) or plain[section]
    table[key] = text
    run(msgspec.convert(plain, Manifest), matrix())


def manifest(text: str) -> Manifest:
    return loads(f'schema = "envlock/1"\n{text}\n')


def rules_are(monkeypatch: pytest.MonkeyPatch, **checks: Any) -> None:
    """Have the engine know these rules alone, each of a function of a stack."""
    rules = [
        engine.rule(name, layer="gpu", severity="warning")(lambda stack, _, check=check: check(stack))
        for name, check in checks.items()
    ]
    monkeypatch.setattr(engine, "stack_rules", lambda: rules)


def test_findings_come_worst_first_then_by_rank_layer_and_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        Finding("b", "", severity="note"),
        Finding("d", "", severity="error", layer="os"),
        Finding("c", "", severity="error", rank=1, layer="driver"),
        Finding("b", "", severity="error", layer="os"),
        Finding("z", "", severity="error", layer="driver"),
        Finding("a", ""),
    ]
    rules_are(monkeypatch, one=lambda stack: iter(told), other=lambda stack: [Unknown("the driver")])
    result = run(manifest(""), None)
    assert [(each.severity, each.layer, each.subject) for each in result.findings] == [
        ("error", "driver", "z"), ("error", "os", "b"), ("error", "os", "d"), ("error", "driver", "c"),
        ("warning", "gpu", "a"), ("note", "gpu", "b"),
    ]  # fmt: skip
    assert {each.rule for each in result.findings} == {"one"}
    assert result.unknown == (Unknown("the driver", rule="other"),)


def test_fixes_that_work_on_paper_are_told_the_smallest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def fix(name: str, **trial: Any) -> Fix:
        return Fix("driver.version", name, "", {f"driver.{key}": value for key, value in trial.items()})

    fixes = (
        fix("two changes", version="2", cuda="12.4"),
        fix("leaves it", cuda="12.4"),
        fix("makes a problem", version="2", flavor="open"),
        fix("makes a note", version="3"),
        fix("is no version", version=2),
        fix("is advice"),
    )

    def old(stack: Stack) -> Any:
        if stack.driver.version == "1":
            yield Finding("driver.version", "too old", fixes=fixes)

    def side(stack: Stack) -> Any:
        if stack.driver.flavor:
            yield Finding("driver.flavor", "open")
        if stack.driver.version == "3":
            yield Finding("driver.cuda", "worth knowing", severity="note")

    rules_are(monkeypatch, old=old, side=side)
    (finding,) = run(manifest('[driver]\nversion = "1"'), None).findings
    assert [each.to for each in finding.fixes] == ["makes a note", "two changes"]
    (untried,) = run(manifest('[driver]\nversion = "1"'), None, try_fixes=False).findings
    assert untried.fixes == ()


def test_so_many_fixes_are_tried_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def old(stack: Stack) -> Any:
        runs.append(stack)
        for name in "ab":
            trials = [Fix(name, "", "", {"driver.version": str(number)}) for number in range(20)]
            yield Finding(name, "", fixes=tuple(trials))

    rules_are(monkeypatch, old=old)
    run(manifest(""), None)
    assert len(runs) == 1 + engine.FIX_TRIALS == 25


def test_without_rare_ones_only_quiet_findings_come_without_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(stack: Stack) -> Any:
        if stack.driver.version == "1":
            for name, quiet in (("shown", False), ("hidden", True)):
                fixes = (Fix("driver.version", name, "", {"driver.version": "2"}),)
                yield Finding(name, "", fixes=fixes, quiet=quiet)

    rules_are(monkeypatch, old=old)
    stack = manifest('[driver]\nversion = "1"')

    def fixed(**settings: bool) -> set[str]:
        return {finding.subject for finding in run(stack, None, **settings).findings if finding.fixes}

    assert fixed() == {"shown", "hidden"}
    assert fixed(rare=False) == {"shown"}


def test_evidence_of_a_package_without_a_version_is_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(stack: Stack) -> Any:
        facts = ("package.pip.numpy", "package.pip.scipy", "driver.version")
        yield Finding("a", "", evidence=tuple(Evidence(each, None) for each in facts))

    rules_are(monkeypatch, odd=odd)
    (finding,) = run(
        manifest('[package.pip]\nnumpy = { installer = "pip" }\n[driver]\nversion = "1"'), None
    ).findings
    assert [each.value for each in finding.evidence] == [{"installer": "pip"}, None, None]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("driver-missin", r"did you mean driver-missing( or [a-z-]+){0,2}\?"),
        ("zzz", "`envlock explain` lists them"),
    ],
)
def test_a_rule_that_there_is_not(name: str, hint: str) -> None:
    with pytest.raises(engine.UnknownRuleError, match=rf"\Ano rule is named '{name}'; {hint}\Z"):
        engine.find_rule(name)


def test_a_rule_knows_its_name_layer_severity_and_explanation() -> None:
    def check(stack: Stack, matrix: Any) -> Any:
        """Explain."""

    def bare(stack: Stack, matrix: Any) -> Any:
        return iter(())

    made = engine.rule("a", layer="os")(check)
    assert (made.name, made.layer, made.severity, made.check, made.explanation) == (
        "a", "os", "error", check, "Explain.",
    )  # fmt: skip
    fleet = engine.fleet_rule("b", severity="note")(check)
    assert (fleet.name, fleet.layer, fleet.severity, fleet.explanation) == ("b", "fleet", "note", "Explain.")
    assert engine.fleet_rule("b")(bare)[2:] == ("error", bare)
    assert engine.rule("a", layer="os")(bare).explanation == engine.fleet_rule("b")(bare).explanation == ""


def test_whether_a_changed_stack_still_breaks_a_rule() -> None:
    stack = load(str(EXAMPLES / "old-driver.toml"))
    finding = run(stack, matrix()).findings[0]
    new = msgspec.structs.replace(stack, driver=Driver(version="580.95.05"))
    assert engine.still_finds(Stack(stack), matrix(), finding)
    assert not engine.still_finds(Stack(new), matrix(), finding)
    assert not engine.still_finds(Stack(stack), matrix(), msgspec.structs.replace(finding, subject="gpu"))
    assert not engine.still_finds(
        Stack(stack), matrix(), msgspec.structs.replace(finding, rule="nodes-differ")
    )


@pytest.mark.parametrize(
    ("severities", "unknown", "verdict"),
    [
        ((), False, "fine"),
        ((), True, "unknown"),
        (("note",), False, "fine"),
        (("note",), True, "unknown"),
        (("note", "warning"), False, "problem"),
        (("error",), True, "problem"),
    ],
)
def test_the_verdict(severities: tuple[Any, ...], unknown: bool, verdict: str) -> None:
    findings = tuple(Finding("a", "", severity=each) for each in severities)
    assert Result(findings, (Unknown("b"),) * unknown).verdict == verdict
