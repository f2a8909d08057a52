"""The NVIDIA half of the matrix does not contradict itself, and answers known questions rightly."""

from __future__ import annotations

import itertools
import re

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envlock.matrix import load
from envlock.matrix.lookup import (
    branch_row,
    driver_for_cuda,
    family_row,
    gpu_row,
    nvcc_row,
    toolkit_row,
    version_key,
)

MATRIX = load()
DEFECTS = [("driver", "known-bad"), ("cudnn", "known-bad"), ("nccl", "known-bad"),
           ("container", "toolkit-known-bad")]  # fmt: skip


def rows(subject, kind):
    return MATRIX.rows(subject, kind)


def toolkits():
    return sorted(rows("cuda", "toolkit"), key=lambda row: Version(row["release"]))


# ---- cuda -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["driver_linux", "driver_windows"])
def test_a_newer_toolkit_never_asks_for_an_older_driver(column):
    known = [row for row in toolkits() if column in row]
    assert len(known) > 40
    for older, newer in itertools.pairwise(known):
        assert Version(older[column]) <= Version(newer[column]), (older["release"], newer["release"])


def test_releases_belong_to_their_minor_and_stand_in_order():
    assert [row["release"] for row in rows("cuda", "toolkit")] == [row["release"] for row in toolkits()]
    for row in toolkits():
        assert row["release"].startswith(row["cuda"] + ".")
    assert {"10.0", "11.8", "12.4", "12.9", "13.0"} <= {row["cuda"] for row in toolkits()}
    assert "12.7" not in {row["cuda"] for row in toolkits()}  # there was a driver for it, but no toolkit


def test_minor_version_compatibility_starts_with_the_drivers_of_its_first_toolkits():
    for row in rows("cuda", "family"):
        last = [
            kit for kit in toolkits() if kit["cuda"].split(".")[0] == row["major"] and "driver_linux" in kit
        ]
        assert Version(row["driver_linux"]) <= Version(last[-1]["driver_linux"])
        before = [kit for kit in toolkits() if int(kit["cuda"].split(".")[0]) < int(row["major"])]
        assert Version(row["driver_linux"]) > Version(before[-1]["driver_linux"])


def test_nvcc_of_every_toolkit_is_known_and_archs_come_and_go_once():
    by_minor = {row["cuda"]: row["archs"] for row in rows("cuda", "nvcc")}
    assert set(by_minor) == {row["cuda"] for row in toolkits()}
    minors = sorted(by_minor, key=Version)
    for arch in {arch for archs in by_minor.values() for arch in archs}:
        there = [arch in by_minor[minor] for minor in minors]
        runs = [key for key, _ in itertools.groupby(there)]
        assert runs.count(True) == 1, f"{arch} comes, goes and comes again: {minors}"
    for archs in by_minor.values():
        plain = {arch for arch in archs if arch[-1].isdigit()}
        assert {arch.rstrip("af") for arch in archs} == plain  # sm_90a never without sm_90


def test_some_nvcc_build_for_every_gpu_and_not_for_none():
    builds = {arch for row in rows("cuda", "nvcc") for arch in row["archs"]}
    for gpu in rows("gpu", "gpu"):
        assert "sm_" + gpu["compute_capability"].replace(".", "") in builds, gpu["name"]


@pytest.mark.parametrize(
    ("cuda", "arch", "builds"),
    [("12.4", "sm_90", True), ("12.4", "sm_120", False), ("12.8", "sm_120", True), ("12.9", "sm_70", True),
     ("13.0", "sm_70", False), ("11.7", "sm_89", False), ("11.8", "sm_35", True), ("12.0", "sm_35", False),
     ("11.0", "sm_86", False), ("11.1", "sm_86", True), ("9.0", "sm_70", True), ("8.0", "sm_70", False),
     ("8.0", "sm_20", True), ("9.0", "sm_20", False)],
)  # fmt: skip
def test_what_nvcc_builds_for(cuda, arch, builds):
    row = nvcc_row(MATRIX, cuda)
    assert row is not None
    assert (arch in row["archs"]) is builds


@pytest.mark.parametrize(
    ("cuda", "platform", "driver", "native"),
    [("12.4", "linux", "525.60.13", False), ("12.4.131", "linux", "525.60.13", False),
     ("12.0", "linux", "525.60.13", True), ("11.8", "windows", "452.39", False),
     ("10.2", "linux", "440.33", True), ("11.0", "linux", "450.51.05", True),
     ("13.5", "linux", "580.65.06", False), ("13.9", "linux", "580.65.06", False),
     ("12.8", "windows", "527.41", False), ("13.0", "windows", "580", True), ("13.5", "windows", "580", False)],
)  # fmt: skip
def test_the_oldest_driver_of_a_cuda(cuda, platform, driver, native):
    floor = driver_for_cuda(MATRIX, cuda, platform)
    assert floor is not None
    assert (floor.version, floor.native) == (driver, native)


def test_an_unknown_cuda_has_no_driver_floor():
    assert driver_for_cuda(MATRIX, "14.0", "linux") is None
    assert driver_for_cuda(MATRIX, "7.0", "linux") is None
    assert driver_for_cuda(MATRIX, "14.0", "windows") is None
    assert family_row(MATRIX, "10.2") is None


def test_a_toolkit_is_found_by_release_and_by_component_version():
    assert toolkit_row(MATRIX, "12.4.1")["driver_linux"] == "550.54.15"
    assert toolkit_row(MATRIX, "12.4.131")["release"] == "12.4.0"
    assert toolkit_row(MATRIX, "12.7") is None


def test_forward_compatibility_bridges_to_newer_cudas_only():
    cuda_of = {row["branch"]: row["max_cuda"] for row in rows("driver", "branch") if "max_cuda" in row}
    for row in rows("cuda", "compat"):
        assert cuda_of[row["own_branch"]] == row["cuda"]
        for branch in row["branches"]:
            assert Version(cuda_of[branch]) < Version(row["cuda"]), row
        for branch in row.get("not_branches", ()):
            assert Version(cuda_of[branch]) > Version(row["cuda"]), row
        assert row["package"] == "cuda-compat-" + row["cuda"].replace(".", "-")
        assert "geforce" not in row["lines"]


# ---- driver ---------------------------------------------------------------------------------------


def test_a_newer_branch_supports_a_newer_cuda():
    branches = rows("driver", "branch")
    assert [row["branch"] for row in branches] == sorted(row["branch"] for row in branches)
    known = [row["max_cuda"] for row in branches if "max_cuda" in row]
    assert known == sorted(set(known), key=Version)


def test_a_toolkits_driver_is_of_the_branch_that_supports_it():
    cuda_of = {row["branch"]: row["max_cuda"] for row in rows("driver", "branch") if "max_cuda" in row}
    for row in toolkits():
        if "driver_linux" in row and Version(row["cuda"]) >= Version("9.0"):  # older branches have no row
            assert cuda_of[row["driver_linux"].split(".")[0]] == row["cuda"], row


def test_a_branch_without_fixes_says_so():
    for row in rows("driver", "branch"):
        if "eol" in row:
            assert row.get("ended", False) is (row["eol"] < row["read"].strftime("%Y-%m")), row


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [("535.104.05", "12.2"), ("565.77", "12.7"), ("470.57.02", "11.4"), ("580.95.05", "13.0")],
)
def test_the_branch_of_a_driver(driver, cuda):
    assert branch_row(MATRIX, driver)["max_cuda"] == cuda


def test_every_windows_driver_of_the_release_notes_is_of_its_toolkits_branch():
    for row in toolkits():
        if "driver_windows" in row and Version(row["cuda"]) >= Version("11.0"):
            branch = branch_row(MATRIX, row["driver_windows"], "windows")
            assert branch["max_cuda"] == row["cuda"], row


@pytest.mark.parametrize(
    ("driver", "branch"),
    [
        ("537.13", "535"),
        ("581.57", "580"),
        ("610.43", "610"),
        ("446.14", None),
        ("999.10", None),
        ("x", None),
    ],
)
def test_a_windows_branch_counts_on_to_the_next(driver, branch):
    row = branch_row(MATRIX, driver, "windows")
    assert (row["branch"] if row else None) == branch
    assert branch_row(MATRIX, "581.57") is None


def test_every_gpu_but_tegra_has_exactly_one_row_of_driver_support():
    covered = [cc for row in rows("driver", "gpu-support") for cc in row["compute_capabilities"]]
    assert len(covered) == len(set(covered))
    for gpu in rows("gpu", "gpu"):
        if gpu["line"] != "jetson":
            assert gpu["compute_capability"] in covered, gpu["name"]
    branches = {row["branch"] for row in rows("driver", "branch")} | {"367"}
    for row in rows("driver", "gpu-support"):
        assert row.get("first_branch", "384") in branches
        assert row.get("last_branch", "384") in branches
        assert row.get("first_branch", "000") < row.get("last_branch", "999")


def test_a_gpus_first_driver_is_not_newer_than_the_first_cuda_that_builds_for_it():
    """A toolkit's own driver runs what its nvcc builds: but for GPUs that came out after the toolkit."""
    cuda_of = {row["branch"]: row["max_cuda"] for row in rows("driver", "branch") if "max_cuda" in row}
    for row in rows("driver", "gpu-support"):
        if row.get("first_branch") not in cuda_of or row["architecture"] in ("Volta", "Turing"):
            continue
        arch = "sm_" + row["compute_capabilities"][0].replace(".", "")
        first = min((kit["cuda"] for kit in rows("cuda", "nvcc") if arch in kit["archs"]), key=Version)
        assert Version(cuda_of[row["first_branch"]]) <= Version(first), row


def test_open_modules_and_architectures_agree():
    of = {cc: row["name"] for row in rows("gpu", "architecture") for cc in row["compute_capabilities"]}
    said: dict[str, str] = {}
    for row in rows("driver", "open-module"):
        assert {of[cc] for cc in row["compute_capabilities"]} == set(row["architectures"])
        if "names" not in row:
            assert not said.keys() & set(row["compute_capabilities"])
            said.update(dict.fromkeys(row["compute_capabilities"], row["open"]))
    assert (said["7.0"], said["7.5"], said["10.0"]) == ("unsupported", "supported", "required")


# ---- gpu ------------------------------------------------------------------------------------------


def test_at_least_150_gpus_of_every_line():
    assert len(rows("gpu", "gpu")) >= 150
    assert {gpu["line"] for gpu in rows("gpu", "gpu")} == {"data centre", "workstation", "geforce", "jetson"}


def test_a_gpu_is_of_the_architecture_of_its_capability():
    of = {cc: row["name"] for row in rows("gpu", "architecture") for cc in row["compute_capabilities"]}
    for gpu in rows("gpu", "gpu"):
        assert of[gpu["compute_capability"]] == gpu["architecture"], gpu["name"]


def test_no_two_gpus_share_a_name():
    names = [name for gpu in rows("gpu", "gpu") for name in (gpu["name"], *gpu.get("also", ()))]
    assert len(names) == len(set(names))
    for name in names:
        assert gpu_row(MATRIX, name) is not None
        assert name in (gpu_row(MATRIX, name)["name"], *gpu_row(MATRIX, name).get("also", ())), name


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("NVIDIA B200", "10.0"),
        ("NVIDIA GeForce RTX 4090", "8.9"),
        ("GeForce RTX 3090", "8.6"),  # before R470 the maker's name is left out
        ("Tesla T4", "7.5"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "8.0"),
        ("GRID A100-40C", "8.0"),  # a vGPU profile
        ("Tesla V100-FHHL-16GB", "7.0"),
        ("nvidia  geforce gtx 1080 ti", "6.1"),
        ("NVIDIA GeForce RTX 5090", "12.0"),
        ("NVIDIA GB10", "12.1"),
        ("Orin (nvgpu)", "8.7"),
        ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("Quadro RTX 6000", "7.5"),
    ],
)
def test_the_capability_of_a_name(name, capability):
    row = gpu_row(MATRIX, name)
    assert row is not None
    assert row["compute_capability"] == capability


@pytest.mark.parametrize(
    "name", ["", "NVIDIA", "NVIDIA GeForce RTX 3090 Turbo", "Tesla", "NVIDIA A1000", "AMD MI300X"]
)
def test_a_name_that_is_not_listed_is_not_guessed(name):
    assert gpu_row(MATRIX, name) is None


# ---- cudnn, nccl, container, host compiler --------------------------------------------------------


def test_no_cudnn_version_has_two_rows_for_one_cuda():
    versions = [f"{major}.{minor}.{patch}.9" for major, last in ((7, 6), (8, 9), (9, 30))
                for minor in range(last + 1) for patch in range(8)]  # fmt: skip
    for version in versions:
        found = [
            row["cuda_major"]
            for row in rows("cudnn", "release")
            if Version(version) in SpecifierSet(row["versions"])
        ]
        assert len(found) == len(set(found)), (version, found)


@pytest.mark.parametrize(
    ("version", "majors", "oldest"),
    [("9.1.0.70", {"11", "12"}, "5.0"), ("8.9.7.29", {"11", "12"}, "5.0"), ("9.10.2.21", {"11", "12"}, "5.0"),
     ("9.11.0.98", {"12"}, "7.5"), ("9.15.1.9", {"12", "13"}, "7.5"), ("8.2.1.32", {"10", "11"}, "3.0")],
)  # fmt: skip
def test_the_cuda_and_gpus_of_a_cudnn(version, majors, oldest):
    found = [row for row in rows("cudnn", "release") if Version(version) in SpecifierSet(row["versions"])]
    assert {row["cuda_major"] for row in found} == majors
    assert min((row["capability_min"] for row in found), key=float) == oldest


def test_cudnns_soname_and_minors_are_of_its_major():
    for row in rows("cudnn", "release"):
        major = re.search(r"\d+", row["versions"])[0]
        if "soname" in row:
            assert row["soname"] == f"libcudnn.so.{major}"
        for cuda in row.get("cuda", ()):
            assert cuda.split(".")[0] == row["cuda_major"]
    for row in rows("cudnn", "sublibrary"):
        assert all(name.endswith(f".so.{row['major']}") for name in row["names"])


def code(subject: str, version: str) -> int:
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    for row in rows(subject, "encoding"):
        if "before" not in row or Version(version) < Version(row["before"]):
            return major * row["major"] + minor * row["minor"] + patch
    raise AssertionError(version)


def test_version_codes():
    assert code("cudnn", "8.9.7") == 8907
    assert code("cudnn", "9.1.0") == 90100
    for row in rows("nccl", "release"):
        assert code("nccl", row["version"]) == row["code"], row["version"]


def test_nccl_releases_stand_in_order():
    versions = [Version(row["version"]) for row in rows("nccl", "release")]
    assert versions == sorted(versions)


@pytest.mark.parametrize(("subject", "kind"), DEFECTS)
def test_a_defect_says_for_which_versions_and_is_gone_where_it_is_fixed(subject, kind):
    for row in rows(subject, kind):
        affected = SpecifierSet(row["versions"])
        if "fixed_in" in row:
            assert Version(row["fixed_in"]) not in affected, row
        bounds = [Version(part.version.removesuffix(".*")) for part in affected]
        inside = [bound for bound in bounds if bound in affected] or [Version("0.1")]
        assert all(bound in affected for bound in inside)
        for column in ("driver", "torch"):
            if column in row:
                SpecifierSet(row[column])


@pytest.mark.parametrize(("subject", "kind"), DEFECTS)
def test_a_defect_that_hits_at_large_is_not_shouted(subject, kind):
    """An open-ended or wide range without a condition would fire on healthy stacks: it must be quiet or a note."""
    conditions = {"compute_capabilities", "arch", "min_gpus", "rdma", "environ", "torch", "flavor", "driver",
                  "legacy_image", "compat", "runtime", "os"}  # fmt: skip
    for row in rows(subject, kind):
        wide = not any(part.operator in ("==", ">=") for part in SpecifierSet(row["versions"]))
        if wide and not conditions & row.keys():
            assert row.get("quiet"), row
        if row.get("quiet"):
            assert row["severity"] == "note", row


@pytest.mark.parametrize(
    ("nccl", "arch", "capability", "loud"),
    [("2.20.5", "x86_64", "8.0", []), ("2.21.5", "x86_64", "9.0", []), ("2.27.5", "x86_64", "9.0", []),
     ("2.28.9", "x86_64", "10.0", []), ("2.14.3", "x86_64", "8.0", []), ("2.30.7", "aarch64", "9.0", []),
     ("2.14.3", "x86_64", "9.0", ["2.15.5"]), ("2.21.5", "x86_64", "12.0", ["2.26.2"]),
     ("2.28.9", "aarch64", "9.0", ["2.29.3"]), ("2.29.2", "x86_64", "9.0", ["2.29.3"])],
)  # fmt: skip
def test_ordinary_stacks_meet_no_loud_nccl_row(nccl, arch, capability, loud):
    """What torch 2.0 to 2.10 ship, on eight GPUs of one machine with nothing special set."""
    found = [
        row["fixed_in"]
        for row in rows("nccl", "known-bad")
        if Version(nccl) in SpecifierSet(row["versions"])
        and not row.get("quiet")
        and arch == row.get("arch", arch)
        and capability in row.get("compute_capabilities", (capability,))
        and "environ" not in row
        and "rdma" not in row
    ]
    assert found == loud


def test_a_gcc_limit_never_falls_and_old_nvcc_do_not_take_new_gcc():
    for compiler in ("gcc", "clang", "msvc"):
        known = [row for row in rows("host_compiler", "host-compiler") if row["compiler"] == compiler]
        assert known == sorted(known, key=lambda row: Version(row["cuda"]))
        for older, newer in itertools.pairwise(known):
            assert Version(older["max"]) <= Version(newer["max"]), (older["cuda"], newer["cuda"])
        for row in known:
            assert Version(row.get("min", "0")) <= Version(row["max"])
    gcc = {
        row["cuda"]: row["max"] for row in rows("host_compiler", "host-compiler") if row["compiler"] == "gcc"
    }
    assert (gcc["8.0"], gcc["9.2"], gcc["11.8"], gcc["12.4"], gcc["12.8"]) == ("5", "7", "11", "13", "14")
    assert set(gcc) == {row["cuda"] for row in toolkits()}


def test_container_terms_are_complete():
    assert {row["name"] for row in rows("container", "property")} == {"arch", "brand", "cuda", "driver"}
    named = {row["name"] for row in rows("container", "capability")}
    assert {"compute", "utility"} == {
        row["name"] for row in rows("container", "capability") if row.get("default")
    }
    assert {row["capability"] for row in rows("container", "library")} <= named
    compute = next(row for row in rows("container", "capability") if row["name"] == "compute")
    assert "libcuda.so" in compute["libraries"]
    lines = {gpu["line"] for gpu in rows("gpu", "gpu")} - {"jetson"}
    assert {row["line"] for row in rows("container", "brand")} == lines


@pytest.mark.parametrize(
    ("older", "newer"), [("12.4", "12.4.1"), ("525.60.13", "525.105.17"), ("9.10.2", "9.11"), ("", "1")]
)
def test_versions_compare_number_by_number(older, newer):
    assert version_key(older) < version_key(newer)
    assert version_key("12.4") == version_key("12.4.0")
    assert version_key("1.17.7-1") == (1, 17, 7)
