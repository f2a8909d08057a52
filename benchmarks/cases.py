"""Runs envlock over a folder of real failures and says how often it names the cause, and how early.

    python benchmarks/cases.py DIR [--missed] [--padded] [--json FILE]

A case is a folder with ``case.toml`` (``kind`` check | diff | healthy, the expected ``rule``, and ``cause``:
every address that a fair judge would accept) and the manifests: ``bad.toml``, for a diff ``good.toml``, for a
healthy one ``machine.toml``; ``log.txt`` is the symptom. A case is right when the first finding (check) or the
first cause (diff) names an address of ``cause`` or one below it, or for check is of the expected rule.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import envlock
from envlock.compare.model import Cause
from envlock.rules.model import Finding


def accepted(address: str, cause: Iterable[str]) -> bool:
    """Tell whether an address is one of the cause's or lies below it."""
    return any(address == each or address.startswith(each + ".") for each in cause)


def rank_check(case: dict[str, Any], findings: Iterable[Finding]) -> int | None:
    """Return the place (from 1) of the first finding that names the cause; notes count like the rest."""
    for place, finding in enumerate(findings, 1):
        if (case["rule"] and finding.rule == case["rule"]) or accepted(finding.subject, case["cause"]):
            return place
    return None


def rank_diff(case: dict[str, Any], causes: Iterable[Cause]) -> int | None:
    """Return the place (from 1) of the first cause whose address is accepted."""
    return next(
        (place for place, each in enumerate(causes, 1) if accepted(each.address, case["cause"])), None
    )


LAYERS = ("driver", "gpu", "container", "host", "os", "python", "toolkit", "compiler", "library", "framework",
          "environ", "package")  # fmt: skip
SIZES = ("major", "minor", "patch", "build", "unknown", "")

BASELINES: dict[str, Callable[[Any], Any]] = {
    "by layer and size": lambda c: (
        LAYERS.index(c.address.partition(".")[0]),
        SIZES.index(c.size),
        c.address,
    ),
    "by name": lambda c: c.address,
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--missed", action="store_true", help="say what came first in each case that was missed"
    )
    parser.add_argument("--padded", action="store_true", help="use the manifests inside 90 neutral packages")
    parser.add_argument("--json", type=Path, help="write the places, case by case")
    options = parser.parse_args()
    places: dict[str, dict[str, int | None]] = defaultdict(dict)
    rules: dict[str, str] = {}
    baselines: dict[str, list[int | None]] = defaultdict(list)
    alarms: list[str] = []
    proven_wrong: list[str] = []
    suffix = ".padded.toml" if options.padded else ".toml"
    for folder in sorted(path.parent for path in options.folder.glob("*/case.toml")):
        case = tomllib.loads((folder / "case.toml").read_text())
        rules[folder.name] = case["rule"] or "(none fits)"

        def load(name: str, folder: Path = folder) -> Any:
            path = folder / f"{name}{suffix}"
            return envlock.load(str(path if path.exists() else folder / f"{name}.toml"))

        if case["kind"] == "healthy":
            result = envlock.check(load("machine"))
            alarms += [
                f"{folder.name}: {f.rule}: {f.message}" for f in result.findings if f.severity == "error"
            ]
            places["healthy"][folder.name] = None
        elif case["kind"] == "check":
            findings = envlock.check(load("bad")).findings
            place = places["check"][folder.name] = rank_check(case, findings)
            if options.missed and place != 1:
                print(
                    f"check {folder.name} place {place}: {case['title']} [{case['rule']}] {case['cause'][:3]}"
                )
                for finding in findings[:2]:
                    print(f"      said: {finding.severity} {finding.rule}: {finding.message}")
        else:
            bad, good = load("bad"), load("good")
            log = (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""
            for kind, text in (("diff", None), ("diff with log", log)):
                difference = envlock.diff(bad, good, log=text)
                place = places[kind][folder.name] = rank_diff(case, difference.causes)
                if difference.causes and difference.causes[0].proven and place != 1:
                    proven_wrong.append(f"{kind} {folder.name}: {difference.causes[0].address}")
                if options.missed and place != 1:
                    print(
                        f"{kind} {folder.name} place {place}: {case['title']} [{case['rule']}] {case['cause'][:3]}"
                    )
                    for cause in difference.causes[:2]:
                        print(
                            f"      said: {cause.address} proven={cause.proven} {cause.rule} {cause.why[:100]}"
                        )
            for name, key in BASELINES.items():
                ordered = sorted((c for c in difference.changes), key=key)
                baselines[name].append(rank_diff(case, ordered))  # type: ignore[arg-type]
    report(places, rules, baselines, alarms, proven_wrong)
    if options.json:
        options.json.write_text(json.dumps(places, indent=1))


def report(
    places: dict[str, dict[str, int | None]],
    rules: dict[str, str],
    baselines: dict[str, list[int | None]],
    alarms: list[str],
    proven_wrong: list[str],
) -> None:
    """Print the figures: by kind, then by rule."""
    for kind in ("check", "diff", "diff with log"):
        print_line(kind, list(places[kind].values()))
    for name, ranks in baselines.items():
        print_line(f"baseline, {name}", ranks)
    print(f"healthy: {len(places['healthy'])} stacks, {len(alarms)} false alarms at error level")
    for alarm in alarms:
        print(f"    {alarm}")
    print(f"proven causes that are not the accepted one, named first: {len(proven_wrong)}")
    for each in proven_wrong:
        print(f"    {each}")
    print("\nby rule (named first / named at all / cases)")
    by_rule: dict[str, list[int | None]] = defaultdict(list)
    for kind in ("check", "diff"):
        for name, place in places[kind].items():
            by_rule[f"{kind:5} {rules[name]}"].append(place)
    for name, ranks in sorted(by_rule.items()):
        found = sum(rank is not None for rank in ranks)
        print(f"  {name:42} {sum(rank == 1 for rank in ranks):3} {found:3} {len(ranks):3}")


def print_line(kind: str, ranks: list[int | None]) -> None:
    """Print one kind's figures."""
    if not ranks:
        return
    total = len(ranks)
    first = sum(rank == 1 for rank in ranks)
    three = sum(rank is not None and rank <= 3 for rank in ranks)
    missed = sum(rank is None for rank in ranks)
    spread = " ".join(
        f"{rank or 'missed'}:{count}"
        for rank, count in sorted(Counter(ranks).items(), key=lambda x: x[0] or 999)
    )
    print(
        f"{kind}: {total} cases, first {first} ({first / total:.0%}), first three {three} ({three / total:.0%}), "
        f"missed {missed} ({missed / total:.0%}); places {spread}"
    )


if __name__ == "__main__":
    main()
