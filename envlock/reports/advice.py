"""What would run here, as text and as JSON: the builds that run and their commands, those that do not and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from envlock.matrix.loader import Matrix
from envlock.reports.json import SCHEMA, Report, encode
from envlock.reports.style import Style, safe
from envlock.rules.advise import Judged, Reason, Runs
from envlock.rules.builds import Build, newest_known
from envlock.rules.gpus import devices
from envlock.rules.model import Unknown
from envlock.rules.stack import Stack

COMMANDS_SHOWN = 3
BUILDS_SHOWN = 8
REASONS_SHOWN = 5
LABELS_SHOWN = 4

_OPTIONS = {"driver.version": "--driver", "driver.cuda": "--driver", "gpu": "--gpu"}


class Asked(NamedTuple):
    """The question: which project, in which versions, on which stack, by which matrix."""

    project: str
    specifier: str
    stack: Stack
    matrix: Matrix
    instead: Build | None = None
    """The newest build of another release that runs, where none of those asked for does."""


class ReportedBuild(msgspec.Struct, frozen=True, omit_defaults=True):
    """A build, whether it runs, and why not, what is missing to say, or what else must hold."""

    project: str
    version: str
    cuda: str
    runs: Runs
    install: str
    companions: dict[str, str] = {}
    against: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    source: str = ""


class AdviceReport(Report, frozen=True, omit_defaults=True):
    """The report's object with the builds in it."""

    builds: tuple[ReportedBuild, ...] = ()


def verdict(judged: Sequence[Judged]) -> str:
    """Return "fine" where a build runs, "problem" where none can, "unknown" where that cannot be said."""
    runs = {each.runs for each in judged}
    if "yes" in runs:
        return "fine"
    return "unknown" if "unknown" in runs or not judged else "problem"


def as_json(asked: Asked, judged: Sequence[Judged]) -> str:
    """Render the advice as JSON: every build, newest first."""
    missing = {reason.text for each in judged if each.runs == "unknown" for reason in each.reasons}
    unknown = [Unknown(needs=text) for text in sorted(missing)]
    if not judged:
        unknown.append(Unknown(needs=_none_known(asked)))
    return encode(
        AdviceReport(
            SCHEMA,
            "advise",
            verdict(judged),
            unknown=tuple(unknown),
            builds=tuple(_reported(each) for each in judged),
        )
    )


def _reported(judged: Judged) -> ReportedBuild:
    build, texts = judged.build, tuple(map(_full, judged.reasons))
    return ReportedBuild(
        project=build.project,
        version=build.version,
        cuda=build.cuda,
        runs=judged.runs,
        install=build.install,
        companions=build.companions,
        against=texts if judged.runs == "no" else (),
        missing=texts if judged.runs == "unknown" else (),
        conditions=texts if judged.runs == "yes" else (),
        source=build.source,
    )


def _full(reason: Reason) -> str:
    return f"{reason.text} ({reason.detail})" if reason.detail else reason.text


def as_text(asked: Asked, judged: Sequence[Judged], style: Style, *, everything: bool = False) -> str:
    """Render the advice: the answer, the builds that run with commands, then the others by their reason."""
    if not judged:
        return f"{_none_known(asked)}\n"
    running = [each for each in judged if each.runs == "yes"]
    lines = [_answer(asked, judged, running, style)]
    if running:
        lines += ["", *_running(running, style, everything)]
    for runs, title in (("unknown", "not known"), ("no", "do not run")):
        some = [each for each in judged if each.runs == runs]
        if some:
            lines += ["", style.paint(f"{title}:", "yellow" if runs == "unknown" else "red")]
            lines += _by_reason(some, everything)
            if (
                runs == "unknown"
                and not running
                and not {each.text for each in some[0].reasons} & {*_OPTIONS}
            ):
                lines.append(_try(some[0]))
    if asked.instead:
        lines += [
            "",
            f"another release runs: {asked.project} {asked.instead.label}",
            f"      {asked.instead.install}",
        ]
    lines += ["", style.paint(_sources(asked, running or judged), "dim")]
    return "\n".join(lines) + "\n"


def _none_known(asked: Asked) -> str:
    newest = newest_known(asked.matrix, asked.project)
    day = asked.matrix.date().isoformat()
    return f"the matrix has no build of {asked.project}{asked.specifier}; the newest it has is {newest} (read {day})"


def _answer(asked: Asked, judged: Sequence[Judged], running: Sequence[Judged], style: Style) -> str:
    what = f"{asked.project}{asked.specifier}"
    here = _machine(asked.stack, asked.matrix)
    if running:
        count = f"{len(running)} of {len(judged)} known builds"
        return f"{style.paint(f'{what}: {count} run', 'bold')} on {here}"
    if verdict(judged) == "problem":
        return f"{style.paint(f'{what}: no known build runs', 'bold')} on {here}"
    return f"{style.paint(f'{what}: whether a build runs is not known', 'bold')} on {here}"


def _machine(stack: Stack, matrix: Matrix) -> str:
    """Return the facts that were judged by, and those that were not there to judge by."""
    said: list[str] = []
    lacking: list[str] = []
    libc = stack.manifest.os.libc
    python = stack.manifest.python.version
    gpus = ", ".join(dict.fromkeys(device.label for device in devices(stack, matrix)))
    driver = stack.driver.version or (f"for CUDA {stack.driver.cuda}" if stack.driver.cuda else None)
    for name, value, text in (
        ("GPU", gpus, gpus),
        ("driver", driver, f"driver {driver}"),
        ("Python", python, f"Python {python}"),
        ("libc", libc, libc),
    ):
        (said if value else lacking).append(safe(str(text)) if value else name)
    gone = f"{' (' if said else ''}{', '.join(lacking)} not known{')' if said else ''}" if lacking else ""
    return ", ".join(said) + gone if said else f"a machine with {gone}"


def _running(running: Sequence[Judged], style: Style, everything: bool) -> list[str]:
    shown = running if everything else running[:BUILDS_SHOWN]
    width = max(len(each.build.label) for each in shown)
    common = [reason for reason in shown[0].reasons if all(reason in each.reasons for each in shown)]
    lines = [f"if {_and(common)}:"] if common else []
    for place, each in enumerate(shown):
        beside = "  ".join(f"{name} {pin}" for name, pin in each.build.companions.items())
        own = [reason for reason in each.reasons if reason not in common]
        parts = [f"{each.build.label:<{width}}", beside, f"if {_and(own)}" if own else ""]
        lines.append(f"  {style.paint(parts[0], 'green')}  {'  '.join(filter(None, parts[1:]))}".rstrip())
        if place < COMMANDS_SHOWN or everything:
            lines.append(f"      {each.build.install}")
    left = len(running) - len(shown)
    if left:
        lines.append(style.paint(f"  and {left} older (--all lists them)", "dim"))
    return lines


def _and(reasons: Sequence[Reason]) -> str:
    return " and ".join(_full(reason) for reason in reasons)


def _by_reason(judged: Sequence[Judged], everything: bool) -> list[str]:
    """Return a line for each first reason with the builds that it holds for: that of the newest build first."""
    groups: dict[str, list[str]] = {}
    for each in judged:
        # What is missing is told in full; against a build one reason is enough.
        reasons = each.reasons if each.runs == "unknown" else each.reasons[:1]
        told = "; ".join(_asked_for(reason.text) for reason in reasons)
        groups.setdefault(told, []).append(each.build.label)
    limit = len(groups) if everything else REASONS_SHOWN
    lines = []
    for reason, labels in list(groups.items())[:limit]:
        shown = labels if everything else labels[:LABELS_SHOWN]
        more = f" and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
        lines.append(f"  {safe(reason)}: {', '.join(shown)}{more}")
    if len(groups) > limit:
        lines.append(f"  and {len(groups) - limit} more reasons (--all lists them)")
    return lines


def _asked_for(text: str) -> str:
    return f"{text} (state it with {_OPTIONS[text]})" if text in _OPTIONS else text


def _try(judged: Judged) -> str:
    """Return how to install a build of which it is not known whether it runs."""
    build = judged.build
    besides = "" if build.brings_cuda else f" (with CUDA {build.cuda} and cuDNN {build.cudnn} installed)"
    return f"  to try the newest{besides}: {build.install}"


def _sources(asked: Asked, judged: Sequence[Judged]) -> str:
    return f"source: {judged[0].build.source}; matrix of {asked.matrix.date().isoformat()}"
