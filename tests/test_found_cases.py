"""The real failures under benchmarks/more_cases: each is named first, but for those listed here with the reason."""

import importlib.util
import sys
from pathlib import Path

import pytest

import envlock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).parents[1] / "benchmarks"
CASES = sorted(path.parent for path in (TOP / "more_cases").glob("found-pkg-*/case.toml"))

MISSED = {
    "found-pkg-004": "neither version is stated, and most releases of the pair fit",
    "found-pkg-045": "dds-cli's own code uses no module that Python 3.13 lacks, and what it brings along is not stated",
    "found-pkg-100": "no release of the pair that works is known",
    "found-pkg-112": "the generated code, which asks for a newer grpcio, is no package",
}
"""Cases whose cause is not named first: silence where the facts do not carry it is right."""


def load_benchmark():
    spec = importlib.util.spec_from_file_location("envlock_benchmark_cases", TOP / "cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCHMARK = load_benchmark()


def read(folder, name):
    return envlock.load(str(folder / f"{name}.toml"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_the_cause_is_named_first(folder):
    case = tomllib.loads((folder / "case.toml").read_text(encoding="utf-8"))
    assert case["id"] == folder.name
    if case["kind"] == "healthy":
        findings = envlock.check(read(folder, "machine")).findings
        assert [each.message for each in findings if each.severity == "error"] == []
        return
    if case["kind"] == "check":
        places = [BENCHMARK.rank_check(case, envlock.check(read(folder, "bad")).findings)]
    else:
        bad, good, log = read(folder, "bad"), read(folder, "good"), folder / "log.txt"
        texts = (None, log.read_text(encoding="utf-8")) if log.exists() else (None,)
        causes = [envlock.diff(bad, good, log=text).causes for text in texts]
        places = [BENCHMARK.rank_diff(case, each) for each in causes]
        wrong = [
            each[0].address
            for each in causes
            if each and each[0].proven and BENCHMARK.rank_diff(case, each) != 1
        ]
        assert wrong == [], "a cause is called proven that is not the one"
    assert (folder.name in MISSED) == (places != [1] * len(places)), places


def test_every_reason_belongs_to_a_case():
    assert set(MISSED) <= {folder.name for folder in CASES}
