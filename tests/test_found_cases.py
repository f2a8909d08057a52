"""The real failures under benchmarks/more_cases: each is named first, but for those listed here with the reason."""

import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest

import envlock
from envlock.manifest.model import PipPackage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).parents[1] / "benchmarks"
CASES = sorted(path.parent for path in (TOP / "more_cases").glob("found-*/case.toml"))

MISSED = {
    "found-gpu-064": "in a pasted report an empty string means that the variable was looked for and is not set",
    "found-gpu-131": "two chips were sold as GT 740M, and the build holds code for one of them",
    "found-gpu-204": "the version of the toolkit in /usr is not stated",
    "found-gpu-224": "a nightly whose own cuDNN libraries carry no version: nothing is known of single nightlies",
    "found-gpu-231": "nobody but its reporter has confirmed what breaks in that release of the container toolkit",
    "found-gpu-233": "which releases of nvitop know the process list of which driver is not listed",
    "found-pkg-004": "neither version is stated, and most releases of the pair fit",
    "found-pkg-045": "dds-cli's own code uses no module that Python 3.13 lacks, and what it brings along is not stated",
    "found-pkg-100": "no release of the pair that works is known",
    "found-pkg-112": "the generated code, which asks for a newer grpcio, is no package",
    "found-pkg-129": "a private name of one small tool, which a minor release of another dropped",
    "found-pkg-151": "which wheels hold AVX-512 code by mistake is known from their own reports only",
    "found-pkg-246": "only the newest release of the package is stated, not what Windows lacks",
    "found-pkg-269": "what one release of a small package requires, and the report lists no requirements",
    "found-pkg-272": "which Python this is was not stated, and only some take the backport for their own module",
    "found-pkg-273": "what that pip cannot read is in the metadata of one package",
    "found-pkg-281": "which tornado came with the kernel was not stated",
    "found-pkg-285": "what clashes with torch came with another package",
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


MISSED_AMONG_OTHERS = {
    "found-gpu-050": "only the versions are stated, and onnxruntime's own is one of ninety that differ",
}
"""Differences that are named first alone, and not among as many neutral ones as a real machine has."""


@pytest.mark.parametrize(
    "folder",
    [folder for folder in CASES if folder.name.startswith("found-gpu") and (folder / "good.toml").exists()],
    ids=lambda folder: folder.name,
)
def test_the_cause_is_named_first_among_ninety_neutral_packages(folder):
    case = tomllib.loads((folder / "case.toml").read_text(encoding="utf-8"))
    bad, good = (with_neutral(read(folder, name), minor) for name, minor in (("bad", 1), ("good", 2)))
    difference = envlock.diff(bad, good)
    assert len(difference.changes) > 45
    place = BENCHMARK.rank_diff(case, difference.causes)
    assert (folder.name in MISSED_AMONG_OTHERS) == (place != 1), place
    assert place == 1 or not difference.causes[0].proven


def with_neutral(manifest, minor):
    """Add 90 packages of which every second one differs by a minor release."""
    neutral = {f"neutral-{n:02}": PipPackage(version=f"1.{minor if n % 2 else 0}.{n}") for n in range(90)}
    package = msgspec.structs.replace(manifest.package, pip={**manifest.package.pip, **neutral})
    return msgspec.structs.replace(manifest, package=package)
