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
    assert pairs(package, version, other, other_version)
    assert not pairs(package, version, other, "0.0.1")


def pairs(package, version, other, other_version):
    """The rows that hold two releases for a pair that does not work."""
    return [
        row
        for row in BREAKAGES
        if (row["package"], row["with"]) == (package, other)
        and SpecifierSet(row["affected"]).contains(version)
        and SpecifierSet(row["with_versions"]).contains(other_version)
    ]


@pytest.mark.parametrize(
    ("package", "broken", "healthy", "other", "other_version"),
    [
        ("onnxconverter-common", "1.7.0", "1.6.5", "onnx", "1.19.0"),
        ("onnxslim", "0.1.70", "0.1.65", "onnx", "1.20.0"),
        ("optimum", "1.2.0", "1.1.0", "transformers", "5.0.0"),
        ("pandas-profiling", "3.0.0", "2.13.0", "pydantic", "2.5.0"),
        ("pyannote-audio", "2.0.1", "1.1.2", "huggingface-hub", "1.0.0"),
        ("requests-toolbelt", "0.6.0", "0.5.0", "urllib3", "2.2.0"),
        ("selenium", "3.14.1", "3.14.0", "urllib3", "2.2.0"),
        ("selenium-wire", "4.0.0", "3.0.6", "blinker", "1.8.0"),
        ("statsmodels", "0.13.0", "0.12.2", "scipy", "1.16.0"),
        ("streamlit", "0.85.0", "0.84.0", "altair", "5.0.0"),
        ("tensorboard", "2.17.0", "2.18.0", "numpy", "2.0.0"),
        ("tts", "0.17.7", "0.17.6", "transformers", "4.57.0"),
        ("umap-learn", "0.5.4", "0.5.3", "scikit-learn", "1.8.0"),
        ("zarr", "2.7.0", "2.6.0", "numcodecs", "0.16.0"),
    ],
)
def test_a_release_without_the_failing_line_is_left_alone(package, broken, healthy, other, other_version):
    assert pairs(package, broken, other, other_version)
    assert not pairs(package, healthy, other, other_version)


@pytest.mark.parametrize("setuptools", ["69.5.1", "71.0.0", "75.0.0", "81.0.0"])
def test_pkg_resources_lacks_packaging_in_setuptools_70_only(setuptools):
    assert pairs("torch", "2.1.2", "setuptools", "70.3.0")
    assert not pairs("torch", "2.1.2", "setuptools", setuptools)


@pytest.mark.parametrize(
    ("package", "version", "other", "other_version"),
    [
        ("passlib", "1.7.4", "bcrypt", "5.0.0"),
        ("proto-plus", "1.23.0", "protobuf", "5.26.0"),
        ("shap", "0.41.0", "numpy", "1.24.0"),
        ("tensorboard", "2.20.0", "setuptools", "82.0.1"),
        ("torch", "2.6.0", "triton", "3.3.0"),
        ("tts", "0.22.0", "torch", "2.6.0"),
    ],
)
def test_what_breaks_one_use_and_not_the_import_is_no_error(package, version, other, other_version):
    assert {row.get("severity", "error") for row in pairs(package, version, other, other_version)} == {
        "warning"
    }


@pytest.mark.parametrize(
    ("python", "breaks"),
    [("3.11.8", False), ("3.11.9", True), ("3.12.2", False), ("3.12.3", True), ("3.13.0", True)],
)
def test_a_change_of_patch_releases_leaves_older_ones_of_the_next_python_alone(python, breaks):
    (row,) = (row for row in MATRIX.rows("breakages", "python-breakage") if row["package"] == "dask")
    assert SpecifierSet(row["python"]).contains(python) is breaks


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
