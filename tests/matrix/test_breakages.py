"""The rows of breakages, environment, imports and system_libraries: well formed, without doubles, and usable."""

import re
from importlib import resources

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from envlock.matrix import load
from envlock.matrix.loader import tomllib

MATRIX = load()
SUBJECTS = ("breakages", "environment", "errors", "imports", "system_libraries")
ALL = [
    (subject, kind, row)
    for subject in SUBJECTS
    for kind in MATRIX.kinds(subject)
    for row in MATRIX.rows(subject, kind)
]
BREAKAGES = MATRIX.rows("breakages", "breakage")
SEVERITIES = {"error", "warning", "note"}


def keys(subject):
    text = resources.files("envlock.matrix").joinpath(f"{subject}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["keys"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_row_is_told_apart_by_its_keys(subject):
    for kind, columns in keys(subject).items():
        seen = [tuple(row.get(column) for column in columns) for row in MATRIX.rows(subject, kind)]
        assert sorted({key for key in seen if seen.count(key) > 1}, key=str) == []


def test_every_row_says_where_it_can_be_looked_up():
    assert [row for _, _, row in ALL if not row["source"].strip() or "read" not in row] == []
    assert {row.get("severity", "error") for _, _, row in ALL} <= SEVERITIES


def test_versions_are_specifiers_and_names_are_normalised():
    for row in BREAKAGES:
        for column in ("affected", "with_versions", "python"):
            SpecifierSet(row.get(column, ""))
        assert (row["package"], row["with"]) == (
            canonicalize_name(row["package"]),
            canonicalize_name(row["with"]),
        )
        assert row.get("blame", row["with"]) in (row["package"], row["with"])
    for row in MATRIX.rows("breakages", "python-breakage"):
        SpecifierSet(row["affected"])
        SpecifierSet(row["python"])
        assert [canonicalize_name(name) for name in row.get("unless", ())] == list(row.get("unless", ()))
    for row in MATRIX.rows("breakages", "numpy-2"):
        Version(row["since"])


def test_fixes_are_requirements_that_leave_the_broken_pair():
    wrong = []
    for row in BREAKAGES:
        sides = {row["package"]: row["affected"], row["with"]: row["with_versions"]}
        for text in row["fix"]:
            fix = Requirement(text)
            if fix.name in sides and not leaves(str(fix.specifier), sides[fix.name]):
                wrong.append((row["package"], row["with"], text))
    assert wrong == []


def leaves(fix, broken):
    """No version near a bound of either is both what the fix asks for and what is broken."""
    bounds = {clause.version.removesuffix(".*") for clause in (*SpecifierSet(fix), *SpecifierSet(broken))}
    near = {f"{bound}{end}" for bound in bounds for end in ("", ".0.1", ".999")} | {"0", "99999"}
    both = SpecifierSet(f"{fix},{broken}")
    return not any(both.contains(version, prereleases=True) for version in near)


@pytest.mark.parametrize(
    ("package", "version", "other", "other_version"),
    [
        ("tensorboard", "2.20.0", "setuptools", "82.0.1"),
        ("diffusers", "0.27.2", "huggingface-hub", "0.26.0"),
        ("tensorflow", "2.8.0", "protobuf", "4.21.1"),
        ("gensim", "4.3.2", "scipy", "1.13.0"),
        ("ipython", "7.19.0", "jedi", "0.18.0"),
        ("pytorch", "2.2.2", "mkl", "2024.1.0"),
        ("openai", "1.55.2", "httpx", "0.28.1"),
    ],
)
def test_a_broken_pair_is_found_and_its_repair_is_not(package, version, other, other_version):
    def broken(version, other_version):
        return any(
            (row["package"], row["with"]) == (package, other)
            and SpecifierSet(row["affected"]).contains(version)
            and SpecifierSet(row["with_versions"]).contains(other_version)
            for row in BREAKAGES
        )

    assert broken(version, other_version)
    assert not broken(version, "0.0.1")


def test_values_of_variables_are_patterns():
    for row in MATRIX.rows("environment", "variable"):
        re.compile(row.get("value", ""))
        assert row.get("value") or row["when"]


def test_an_import_name_leads_to_its_project():
    dists = {row["name"]: row["dists"] for row in MATRIX.rows("imports", "import")}
    assert dists["cv2"][0] == "opencv-python"
    assert dists["sklearn"] == ("scikit-learn",)
    assert all(name == canonicalize_name(name) for names in dists.values() for name in names)
    assert all(len(row["dists"]) > 1 for row in MATRIX.rows("imports", "overlap"))


def test_a_system_library_names_a_package_or_a_fix():
    rows = MATRIX.rows("system_libraries", "library")
    assert [row["soname"] for row in rows if not {"deb", "rpm", "conda", "fix"} & set(row)] == []
