"""The frameworks' half of the matrix: held to its own form, to itself, and to the packages it speaks of."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envlock.matrix import loader

SUBJECTS = ("cupy", "extensions", "jax", "numba", "onnxruntime", "python", "tensorflow", "torch")
SPECIFIERS = ("capability", "driver", "llvmlite", "python", "tensorflow", "torch", "torchcodec")
VERSIONS = ("archs", "cuda_builds", "torch_builds", "ptx")


@pytest.fixture(scope="module")
def matrix():
    return loader.load()


def rows(matrix, subject):
    return [(kind, row) for kind in matrix.kinds(subject) for row in matrix.rows(subject, kind)]


def release(matrix, subject, version):
    (row,) = [row for row in matrix.rows(subject, "release") if row["version"] == version]
    return row


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_row_has_a_source_and_a_day_and_is_the_only_one_of_its_kind(matrix, subject):
    with open(os.path.join(os.path.dirname(loader.__file__), f"{subject}.toml"), encoding="utf-8") as file:
        keys = loader.tomllib.loads(file.read())["keys"]
    assert set(keys) == set(matrix.kinds(subject))
    for _, row in rows(matrix, subject):
        assert row["source"].strip()
        assert row["read"] >= datetime.date(2026, 11, 23)
    for kind, columns in keys.items():
        identities = [tuple(row[name] for name in columns) for row in matrix.rows(subject, kind)]
        assert len(identities) == len(set(identities)), kind


@pytest.mark.parametrize("subject", SUBJECTS)
def test_versions_and_specifiers_are_such(matrix, subject):
    for _, row in rows(matrix, subject):
        Version(row.get("version", "0"))
        for name in SPECIFIERS:
            value = row.get(name, "")
            if name == "capability" and re.fullmatch(r"\d+\.\d", value):
                continue
            SpecifierSet(value)
        for name in VERSIONS:
            assert [Version(item) for item in row.get(name, ())] == sorted(map(Version, row.get(name, ())))


@pytest.mark.parametrize(
    ("subject", "first", "last"),
    [("torch", "1.0.0", "2.15.0"), ("tensorflow", "1.13", "2.21"), ("jax", "0.4.1", "0.12.0"),
     ("numba", "0.55.0", "0.68.0"), ("python", "3.6", "3.15")],
)  # fmt: skip
def test_releases_are_in_order_and_reach_from_first_to_last(matrix, subject, first, last):
    versions = [Version(row["version"]) for row in matrix.rows(subject, "release")]
    assert versions == sorted(versions)
    assert versions[0] <= Version(first)
    assert versions[-1] >= Version(last)


def test_the_files_stay_small_enough_to_parse_at_every_start():
    folder = os.path.dirname(loader.__file__)
    assert sum(os.path.getsize(os.path.join(folder, f"{name}.toml")) for name in SUBJECTS) < 160_000


# ---- PyTorch ------------------------------------------------------------------------------------------


def test_what_articles_say_of_torch_2_9_is_not_what_its_wheels_say(matrix):
    """Articles have PyTorch 2.9 built for CUDA 11.8 or 12.1; the wheel pins nvidia-cuda-runtime-cu12 12.8.90."""
    for version in ("2.9.0", "2.9.1"):
        row = release(matrix, "torch", version)
        assert (row["cuda"], row["cuda_runtime"]) == ("12.8", "12.8.90")
        assert row["cuda_builds"] == ("12.6", "12.8", "13.0")
        assert row["cudnn"] == "9.10.2.21"


def test_every_torch_release_has_the_columns_that_rules_need(matrix):
    for row in matrix.rows("torch", "release"):
        assert {"python", "cuda", "cxx11_abi", "numpy", "manylinux"} <= set(row), row["version"]
        assert row["cuda"] in row.get("cuda_builds", (row["cuda"],)), row["version"]
        if "cuda_runtime" in row:
            assert row["cuda_runtime"].startswith(row["cuda"] + "."), row["version"]
        assert row["cxx11_abi"] == (row["manylinux"] == "manylinux_2_28")


def test_torch_builds_agree_with_their_release(matrix):
    releases = {}
    for row in matrix.rows("torch", "release"):
        releases.setdefault(".".join(row["version"].split(".")[:2]), row)
    for build in matrix.rows("torch", "build"):
        row = releases[build["version"]]
        assert build["cuda"] in row["cuda_builds"]
        if build["cuda"] == row["cuda"] and "cudnn" in build:
            assert build["cudnn"] == row["cudnn"]
        assert set(build.get("ptx", ())) <= set(build.get("archs", ()))


def test_no_cuda_13_build_holds_what_cuda_13_cannot_compile(matrix):
    for build in matrix.rows("torch", "build"):
        if build["cuda"].startswith("13.") and "archs" in build:
            assert min(map(Version, build["archs"])) >= Version("7.5")


def test_companions_named_by_a_release_ask_for_that_release(matrix):
    asked = {(row["package"], row["version"]): row["torch"] for row in matrix.rows("torch", "companion")}
    named = 0
    for row in matrix.rows("torch", "release"):
        for package in ("torchvision", "torchaudio"):
            if package in row:
                assert asked[package, row[package]] == f"=={row['version']}"
                named += 1
    assert named > 50


def test_torchcodec_column_and_companions_say_the_same(matrix):
    releases = [row for row in matrix.rows("torch", "release") if "torchcodec" in row]
    for row in matrix.rows("torch", "companion"):
        if row["package"] == "torchcodec":
            for other in releases:
                fits = SpecifierSet(row["torch"]).contains(other["version"])
                listed = SpecifierSet(other["torchcodec"]).contains(row["version"])
                assert fits == listed, (row["version"], other["version"])


# ---- the others ---------------------------------------------------------------------------------------


def test_jax_never_asks_for_a_jaxlib_newer_than_itself(matrix):
    for row in matrix.rows("jax", "release"):
        least = Version(re.match(r">=([\d.]+)", row["jaxlib"])[1])
        assert least <= Version(row["version"])
        assert "cuda13_cudnn" not in row or "13" in row["cuda"]


def test_jax_brought_the_same_cuda_11_from_0_4_18_until_it_left_it(matrix):
    left = release(matrix, "jax", "0.4.26")
    assert left["cuda"] == ("12",)
    for patch in range(18, 26):
        row = release(matrix, "jax", f"0.4.{patch}")
        found = {name: row[f"cuda11_{name}"] for name in ("runtime", "cudnn", "nccl")}
        assert found == {"runtime": ">=11.8", "cudnn": ">=8.8", "nccl": ">=2.18.3"}


def test_onnxruntime_has_one_build_on_the_index_for_each_version(matrix):
    builds = matrix.rows("onnxruntime", "release")
    for version in {row["version"] for row in builds if row["version"].count(".") == 1}:
        assert sum(row["pypi"] for row in builds if row["version"] == version) == 1


def test_xformers_wheels_belong_to_one_torch_until_they_use_its_stable_abi(matrix):
    for row in matrix.rows("extensions", "extension"):
        if row["package"] == "xformers":
            stable = Version(row["version"]) >= Version("0.0.35")
            assert row["torch"] == ">=2.10" if stable else row["torch"].startswith("==")


def test_python_versions_end_after_they_begin(matrix):
    for row in matrix.rows("python", "release"):
        begin, bugfix, end = (row[name] for name in ("first_release", "end_of_bugfix", "end_of_life"))
        assert begin < bugfix < end


# ---- against the registry -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "version", "python"),
    [("torchaudio", "2.9.0", "3.12"), ("torchtext", "0.16.2", "3.11")],
)
def test_companions_are_what_their_wheels_say(matrix, tmp_path, package, version, python):
    """Some megabytes through pip; skipped where pip reaches no index that has the package."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--python-version", python, "--platform", "manylinux_2_28_x86_64", "--platform",
               "manylinux1_x86_64", "--retries", "1", "--timeout", "20", "--dest", str(tmp_path),
               f"{package}=={version}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode and ("from versions: none" in done.stderr or "No module named pip" in done.stderr):
        pytest.skip("no package index within reach")
    assert done.returncode == 0, done.stderr
    (name,) = os.listdir(tmp_path)
    with zipfile.ZipFile(tmp_path / name) as wheel:
        member = next(item for item in wheel.namelist() if item.endswith(".dist-info/METADATA"))
        text = wheel.read(member).decode()
    asked = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.*)$", text, re.M)]
    (row,) = [
        row
        for row in matrix.rows("torch", "companion")
        if (row["package"], row["version"]) == (package, version)
    ]
    assert [str(item.specifier) for item in asked if item.name == "torch"] == [row["torch"]]
