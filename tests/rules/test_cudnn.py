"""Rules about cuDNN, each with a stack that breaks it and a near miss."""

from __future__ import annotations

import pytest

from envlock.rules.cudnn import misfit
from tests.rules.support import check, found, only


@pytest.mark.parametrize(
    ("have", "want", "framework", "problem"),
    [
        ("9.1.0.70", "9.1.0", "torch", ""),
        ("9.5.1", "9.1.0", "torch", ""),
        ("9.1.0", "9.5.1", "torch", "older"),
        ("8.9.7", "9.1.0", "torch", "major"),
        ("9", "8", "ctranslate2", "major"),
        ("9", "9.3", "ctranslate2", ""),
        ("7.4.2", "7.0.5", "tensorflow", "other"),
        ("7.6.5", "7.4.1", "tensorflow", ""),
        ("6.0.21", "5.1.10", "torch", "major"),
        ("", "9.1", "torch", ""),
    ],
)
def test_which_cudnn_serves_a_build(have: str, want: str, framework: str, problem: str) -> None:
    assert misfit(have, want, framework) == problem


SHADOW = """
[[library]]
name = "cudnn"
version = "{own}"
soname = "libcudnn.so.9"
path = "/venv/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9"
provider = "pip:nvidia-cudnn-cu12"
[[library]]
name = "cudnn"
version = "{other}"
soname = "libcudnn.so.9"
path = "/usr/lib/x86_64-linux-gnu/libcudnn.so.9"
provider = "deb:libcudnn9-cuda-12"
used_by = ["torch"]
[framework.torch]
cuda = "12.6"
cudnn = "{own}"
"""


def test_an_older_cudnn_of_the_system_wins() -> None:
    finding = only("cudnn-shadowed", SHADOW.format(own="9.5.1.17", other="9.2.0.82"))
    assert (finding.subject, finding.severity) == ("library.cudnn", "error")
    assert "9.2.0.82" in finding.message and "9.5.1.17" in finding.message
    assert finding.fixes
    assert not found("cudnn-mismatch", SHADOW.format(own="9.5.1.17", other="9.2.0.82"))


def test_a_newer_minor_serves() -> None:
    stack = SHADOW.format(own="9.1.0.70", other="9.5.1.17")
    assert only("cudnn-shadowed", stack).severity == "note"
    assert not found("cudnn-mismatch", stack)


def test_the_frameworks_own_copy_shadows_nothing() -> None:
    stack = SHADOW.format(own="9.5.1.17", other="9.2.0.82").replace('used_by = ["torch"]', "")
    stack = stack.replace(
        'provider = "pip:nvidia-cudnn-cu12"', 'provider = "pip:nvidia-cudnn-cu12"\nused_by = ["torch"]'
    )
    assert not check(stack).findings


WHEEL = """
[framework.torch]
version = "2.4.1+cu121"
[package.pip]
torch = {{ version = "2.4.1+cu121" }}
nvidia-cudnn-cu12 = {{ version = "{version}" }}
[requires]
torch = ["nvidia-cudnn-cu12==9.1.0.70"]
"""


def test_another_package_pulled_cudnn_down() -> None:
    finding = only("cudnn-mismatch", WHEEL.format(version="8.9.7.29"))
    assert (finding.subject, finding.severity) == ("package.pip.nvidia-cudnn-cu12", "error")
    assert "9.1.0.70" in finding.message and "8.9.7.29" in finding.message
    assert {"requires.torch", "package.pip.nvidia-cudnn-cu12"} <= {each.address for each in finding.evidence}
    assert finding.fixes
    assert not found("cudnn-mismatch", WHEEL.format(version="9.3.0.75"))


def test_without_metadata_the_matrix_knows_what_a_build_pins() -> None:
    stack = WHEEL.format(version="8.9.7.29").partition("[requires]")[0]
    assert only("cudnn-mismatch", stack).subject == "package.pip.nvidia-cudnn-cu12"


def test_what_a_framework_says_of_its_build_is_held_against_what_it_loads() -> None:
    stack = """
[[library]]
name = "cudnn"
version = "{}"
used_by = ["jax"]
[framework.jax]
cudnn = "8.9.7"
"""
    assert only("cudnn-mismatch", stack.format("8.6.0"), source="import").severity == "error"
    assert not found("cudnn-mismatch", stack.format("8.9.2"), source="import")


MIXED = """
[[library]]
name = "cudnn"
version = "9.10.2"
soname = "libcudnn.so.9"
path = "/venv/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9"
provider = "pip:nvidia-cudnn-cu12"
used_by = ["torch"]
[[library]]
name = "cudnn"
version = "{version}"
soname = "libcudnn_ops.so.9"
path = "/usr/lib/x86_64-linux-gnu/libcudnn_ops.so.9"
provider = "deb:libcudnn9-cuda-12"
used_by = ["torch"]
"""


def test_parts_of_two_cudnns() -> None:
    finding = only("cudnn-sublibraries-mixed", MIXED.format(version="9.12.0"))
    assert finding.severity == "error"
    assert "libcudnn_ops.so.9" in finding.message and "9.12.0" in finding.message
    assert finding.fixes
    assert not found("cudnn-sublibraries-mixed", MIXED.format(version="9.10.2"))


def test_parts_of_unknown_versions_from_two_places() -> None:
    stack = MIXED.replace('version = "9.10.2"\n', "").replace('version = "{version}"\n', "")
    assert found("cudnn-sublibraries-mixed", stack)


@pytest.mark.parametrize(
    ("provider", "wrong"), [("pip:nvidia-cudnn-cu11", True), ("pip:nvidia-cudnn-cu12", False)]
)
def test_a_cudnn_for_another_cuda(provider: str, wrong: bool) -> None:
    stack = f"""
[[library]]
name = "cudnn"
version = "8.9.4"
provider = "{provider}"
used_by = ["tensorflow"]
[framework.tensorflow]
cuda = "12.2"
"""
    said = found("cudnn-cuda-mismatch", stack)
    assert [finding.severity for finding in said] == ["error"] * wrong
    assert all("CUDA 11" in finding.message for finding in said)


def test_the_systems_package_tells_its_cuda() -> None:
    stack = """
[[library]]
name = "cudnn"
version = "8.6.0.163"
provider = "deb:libcudnn8"
used_by = ["tensorflow"]
[framework.tensorflow]
cuda = "12.2"
[package.system]
libcudnn8 = "8.6.0.163-1+cuda11.8"
"""
    finding = only("cudnn-cuda-mismatch", stack)
    assert "package.system.libcudnn8" in {each.address for each in finding.evidence}


@pytest.mark.parametrize(
    ("version", "gpu", "severity"),
    [("9.11.0", "Tesla V100-SXM2-16GB", "error"), ("9.10.2", "Tesla V100-SXM2-16GB", None),
     ("8.4.0", "NVIDIA H100 PCIe", "warning"), ("8.9.7", "NVIDIA H100 PCIe", None)],
)  # fmt: skip
def test_the_gpus_of_a_cudnn(version: str, gpu: str, severity: str | None) -> None:
    stack = f"""
[[gpu]]
name = "{gpu}"
[[library]]
name = "cudnn"
version = "{version}"
used_by = ["torch"]
[framework.torch]
"""
    said = found("cudnn-gpu-unsupported", stack)
    assert [finding.severity for finding in said] == ([severity] if severity else [])


def test_a_defect_of_the_matrix() -> None:
    stack = '[[library]]\nname = "cudnn"\nversion = "{}"\nused_by = ["torch"]\n'
    finding = next(f for f in found("cudnn-known-bad", stack.format("9.13.0.50")) if f.severity == "warning")
    assert finding.subject == "library.cudnn" and "9.13.1" in finding.message
    assert finding.fixes
    assert not [f for f in found("cudnn-known-bad", stack.format("9.13.1.26")) if f.severity == "warning"]


def test_a_copy_that_nothing_uses_has_no_defects() -> None:
    stack = '[[library]]\nname = "cudnn"\nversion = "9.13.0.50"\n[framework.torch]\nversion = "1.0"\n'
    assert not found("cudnn-known-bad", stack)


def test_a_build_that_bundles_cudnn_does_not_load_the_wheel() -> None:
    stack = WHEEL.format(version="8.9.7.29")
    assert not found("cudnn-mismatch", stack.replace("nvidia-cudnn-cu12==9.1.0.70", "filelock"))
    assert not found("cudnn-mismatch", '[host]\nplatform = "windows"\n' + stack)


def test_torch_does_not_load_the_systems_cudnn() -> None:
    system = '[package.system]\nlibcudnn9-cuda-12 = "9.0.0.312-1"\n'
    assert not found("cudnn-mismatch", '[framework.torch]\nversion = "2.5.1"\ncudnn = "9.1.0"\n' + system)
    assert found("cudnn-mismatch", '[framework.tensorflow]\nversion = "2.18.0"\ncudnn = "9.3"\n' + system)


ALONE = '[[library]]\nname = "cudnn"\nversion = "8.0.3"\n'


@pytest.mark.parametrize(
    "framework",
    ['torch]\ncudnn = "8.3.2"', 'ctranslate2]\ncudnn = "9"', 'tensorflow]\nversion = "2.12.0"'],
)
def test_the_only_copy_of_a_paste_is_the_one_that_is_loaded(framework: str) -> None:
    text = f"{ALONE}[framework.{framework}\n"
    assert only("cudnn-mismatch", text, source="import").severity == "warning"
    assert not found("cudnn-mismatch", text)
    wheel = '[package.pip]\nnvidia-cudnn-cu12 = { version = "9.1.0.70" }\n'
    assert "library.cudnn" not in [
        each.subject for each in found("cudnn-mismatch", text + wheel, source="import")
    ]


def test_a_pytorch_that_does_not_say_its_cudnn_has_its_own() -> None:
    assert not found(
        "cudnn-mismatch", ALONE + '[framework.torch]\nversion = "2.5.1+cu124"\n', source="import"
    )


def test_the_first_pytorches_ask_for_the_very_minor_of_cudnn() -> None:
    stack = """
[[library]]
name = "cudnn"
version = "7.6.0"
used_by = ["torch"]
[framework.torch]
cudnn = "7.1.2"
"""
    assert only("cudnn-mismatch", stack).subject == "library.cudnn"
    assert not found("cudnn-mismatch", stack.replace("7.1.2", "7.4.1"))  # from 1.0 on a newer minor serves


def test_jax_of_conda_asks_for_its_cudnn_too() -> None:
    stack = '[package.conda]\njax = {{ version = "0.4.31" }}\n{} = {{ version = "{}" }}\n'
    assert only("cudnn-mismatch", stack.format("cudnn", "8.9.7")).subject == "package.conda.cudnn"
    assert not found("cudnn-mismatch", stack.format("cudnn", "9.1.1"))


def test_a_cudnn_of_which_only_the_major_is_stated_may_have_a_defect() -> None:
    stack = '[[library]]\nname = "cudnn"\nversion = "{}"\nused_by = ["torch"]\n'
    assert all("may have" in each.message for each in found("cudnn-known-bad", stack.format("8")))
    assert all("may have" not in each.message for each in found("cudnn-known-bad", stack.format("8.0.5")))


def test_a_defect_of_a_rare_use_does_not_move_the_fix_of_a_grave_one() -> None:
    stack = '[[library]]\nname = "cudnn"\nversion = "9.13.0"\nused_by = ["torch"]\n'
    grave, *rest = found("cudnn-known-bad", stack)
    assert grave.severity == "warning" and [fix.to for fix in grave.fixes] == [">=9.13.1"]
    assert rest and all(each.quiet for each in rest)
    assert len({each.identity for each in (grave, *rest)}) == 1 + len(rest)


@pytest.mark.parametrize(("cudnn", "told"), [("9.1.0.70", True), ("8.9.2.26", False), ("8.7.0.84", False)])
def test_a_cudnn_of_another_major_fits_no_build_of_the_release(cudnn: str, told: bool) -> None:
    stack = f'[package.pip]\ntorch = {{ version = "2.2.0" }}\nnvidia-cudnn-cu12 = {{ version = "{cudnn}" }}\n'
    assert bool(found("cudnn-mismatch", stack, "import")) is told
