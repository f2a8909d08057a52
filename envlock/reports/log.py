"""What a log points to, as text and as JSON: causes that a stack confirms, those it rules out, what is missing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from envlock.compare.explain import Explanation, Pointed, Symptom
from envlock.compare.model import Unseen
from envlock.reports.json import SCHEMA, Report, encode, reported
from envlock.reports.style import Style, safe, show
from envlock.reports.text import finding_lines
from envlock.rules.engine import find_rule
from envlock.rules.model import Unknown

SYMPTOMS_SHOWN = 5
CONFIRMED_SHOWN = 3
RULES_SHOWN = 8
FACTS_SHOWN = 6
LINE_SHOWN = 100


class ReportedSymptom(msgspec.Struct, frozen=True, omit_defaults=True):
    """A known error in a log: where, what it means, and the rules and addresses that it points to."""

    line: int
    text: str
    rules: tuple[str, ...]
    addresses: tuple[str, ...]
    meaning: str = ""
    times: int = 1
    source: str = ""


class RuledOut(msgspec.Struct, frozen=True):
    """A rule that a log points to and that finds nothing although its facts are there."""

    rule: str
    line: int


class LogReport(Report, frozen=True, omit_defaults=True):
    """The report's object with the log's errors in it; its findings are the confirmed causes."""

    symptoms: tuple[ReportedSymptom, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()


def as_json(result: Explanation, *, judged: bool) -> str:
    """Render an explanation as JSON; without a stack (not ``judged``) only the symptoms."""
    return encode(
        LogReport(
            SCHEMA,
            "explain",
            result.verdict,
            findings=tuple(reported(finding) for finding, _ in result.confirmed) if judged else None,
            unobserved=tuple(Unseen(*each) for each in result.unobserved) if judged else None,
            unknown=tuple(Unknown(needs=", ".join(each.missing), rule=each.rule) for each in result.undecided)
            if judged
            else None,
            symptoms=tuple(map(_symptom, result.symptoms)),
            ruled_out=tuple(RuledOut(each.rule, each.symptom.line) for each in result.ruled_out),
        )
    )


def _symptom(symptom: Symptom) -> ReportedSymptom:
    return ReportedSymptom(
        line=symptom.line,
        text=symptom.text,
        rules=symptom.rules,
        addresses=symptom.addresses,
        meaning=symptom.meaning,
        times=symptom.times,
        source=symptom.source,
    )


def as_text(result: Explanation, style: Style, name: str, *, judged: bool) -> str:
    """Render an explanation: the confirmed causes first, then what is ruled out and what stays open."""
    if not result.symptoms:
        lines = [f"{safe(name)}: no known error in {_count(result.lines, 'line')}", *_others(result)]
        return "\n".join(lines) + "\n"
    lines = _judged(result, style, name) if judged else _pointed(result, style, name)
    return "\n".join(lines) + "\n"


def _pointed(result: Explanation, style: Style, name: str) -> list[str]:
    count = f"{_count(len(result.symptoms), 'known error')} in {_count(result.lines, 'line')}"
    lines = [style.paint(f"{safe(name)}: {count}", "bold")]
    for symptom in result.symptoms[:SYMPTOMS_SHOWN]:
        times = f", {symptom.times} times" if symptom.times > 1 else ""
        lines += ["", f"line {symptom.line}{times}: {_quote(symptom.text)}"]
        if symptom.meaning:
            lines.append(f"  {safe(symptom.meaning)}")
        if symptom.addresses:
            lines.append(style.paint(f"  see {safe(', '.join(symptom.addresses[:6]))}", "dim"))
    left = len(result.symptoms) - SYMPTOMS_SHOWN
    if left > 0:
        lines += ["", style.paint(f"and {left} more (--json lists them)", "dim")]
    if result.pointed:
        lines += ["", "it points to:", *_rules(result.pointed, style)]
        lines += [
            "",
            "with a manifest it says which of these is the case: envlock explain --log FILE ENV.TOML",
        ]
    return lines


def _judged(result: Explanation, style: Style, name: str) -> list[str]:
    count = len(result.confirmed)
    first = result.symptoms[0]
    if count:
        head = f"this stack confirms {_count(count, 'cause')} of what {safe(name)} says:"
    else:
        head = f"this stack confirms no cause of what {safe(name)} says:"
    lines = [style.paint(head, "bold"), f"  line {first.line}: {_quote(first.text)}"]
    for finding, symptom in result.confirmed[:CONFIRMED_SHOWN]:
        lines += ["", *finding_lines(finding, style)]
        if symptom is not result.symptoms[0]:
            lines.append(style.paint(f"  log: line {symptom.line}: {_quote(symptom.text)}", "dim"))
    left = len(result.confirmed) - CONFIRMED_SHOWN
    if left > 0:
        lines += ["", style.paint(f"and {left} more (--json lists them)", "dim")]
    if result.undecided:
        lines += ["", style.paint("cannot be decided, for want of:", "yellow")]
        reasons = dict(result.unobserved)
        for each in result.undecided[:RULES_SHOWN]:
            missing = ", ".join(f"{address}{_because(reasons.get(address))}" for address in each.missing)
            lines.append(f"  {each.rule}: {missing}")
    if result.ruled_out:
        lines += ["", style.paint("ruled out, the facts are there and nothing is wrong:", "green")]
        lines += _rules(result.ruled_out, style)
    if result.facts and not result.confirmed:
        width = max(len(address) for address, _ in result.facts[:FACTS_SHOWN])
        lines += ["", "what it points to, as this stack has it:"]
        lines += [
            f"  {safe(address):<{width}}  {show(value)}" for address, value in result.facts[:FACTS_SHOWN]
        ]
    return lines


def _others(result: Explanation) -> list[str]:
    """Return what else is wrong, in a line each, where no cause is confirmed."""
    if result.confirmed or not result.others:
        return []
    lines = ["", "whatever the log says, this is wrong with the stack (envlock check):"]
    lines += [f"  {safe(finding.message)} [{finding.rule}]" for finding in result.others[:CONFIRMED_SHOWN]]
    left = len(result.others) - CONFIRMED_SHOWN
    return [*lines, f"  and {left} more"] if left > 0 else lines


def _rules(pointed: Iterable[Pointed], style: Style) -> list[str]:
    some = tuple(pointed)
    width = max(len(each.rule) for each in some)
    lines = [f"  {each.rule:<{width}}  {_first_line(each.rule)}" for each in some[:RULES_SHOWN]]
    if len(some) > RULES_SHOWN:
        lines.append(style.paint(f"  and {len(some) - RULES_SHOWN} more (--json lists them)", "dim"))
    return lines


def _first_line(rule: str) -> str:
    return find_rule(rule).explanation.partition("\n")[0]


def _because(reason: str | None) -> str:
    return f" ({safe(reason)})" if reason else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _quote(text: str) -> str:
    plain = safe(text)
    return f'"{plain if len(plain) <= LINE_SHOWN else plain[: LINE_SHOWN - 1] + "…"}"'
