"""Rules about the GPU, each with a stack that breaks it and a near miss."""

from __future__ import annotations

import pytest

from envlock.rules.gpu import Arch, arch_list_code, parse_arch, runs_binary, runs_ptx
from tests.rules.support import check, found, only


@pytest.mark.parametrize(
    ("text", "arch"),
    [
        ("sm_90", Arch(9, 0)),
        ("sm_90a", Arch(9, 0, "a")),
        ("compute_120", Arch(12, 0)),
        ("sm_103f", Arch(10, 3, "f")),
        ("8.6", Arch(8, 6)),
        ("12.0", Arch(12, 0)),
        ("sm_101", Arch(11, 0)),  # Thor before CUDA 13
        ("gfx90a", None),
        ("sm_", None),
    ],
)
def test_architectures_are_read(text: str, arch: Arch | None) -> None:
    assert parse_arch(text) == arch


@pytest.mark.parametrize(
    ("arch", "gpu", "runs"),
    [
        ("sm_80", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_75", (8, 0), False),
        ("sm_90", (9, 0), True),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_120f", (10, 0), False),
        ("sm_120", (12, 1), True),
        ("sm_80", (8, 7), False),  # Tegra runs only its own
        ("sm_87", (8, 7), True),
        ("sm_87", (8, 9), False),
    ],
)
def test_machine_code_runs_within_its_major(arch: str, gpu: tuple[int, int], runs: bool) -> None:
    parsed = parse_arch(arch)
    assert parsed is not None and runs_binary(parsed, gpu) is runs


@pytest.mark.parametrize(
    ("arch", "gpu", "runs"),
    [("compute_70", (12, 0), True), ("compute_90", (8, 6), False), ("compute_90a", (10, 0), False),
     ("compute_100f", (10, 3), True), ("compute_100f", (12, 0), False)],
)  # fmt: skip
def test_ptx_runs_on_what_is_newer(arch: str, gpu: tuple[int, int], runs: bool) -> None:
    parsed = parse_arch(arch)
    assert parsed is not None and runs_ptx(parsed, gpu) is runs


def test_the_arch_list_of_an_extension_build() -> None:
    code = arch_list_code("Turing 8.0;9.0a+PTX")
    assert code.binary == (Arch(7, 5), Arch(8, 0), Arch(9, 0, "a"))
    assert code.ptx == (Arch(9, 0, "a"),)


OLD_BUILD = """
[[gpu]]
name = "NVIDIA GeForce RTX 5080"
[framework.torch]
version = "2.5.1+cu121"
archs = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
"""


def test_a_new_gpu_has_no_code_in_an_old_build() -> None:
    finding = only("gpu-arch-not-in-build", OLD_BUILD)
    assert (finding.subject, finding.severity) == ("framework.torch.archs", "error")
    assert "sm_120" in finding.message and "sm_90" in finding.message
    assert "gpu" in {each.address for each in finding.evidence}
    assert any("cu128" in fix.to for fix in finding.fixes)


def test_ptx_helps_a_new_gpu_and_is_told() -> None:
    stack = OLD_BUILD + 'ptx = ["compute_90"]\n'
    assert not found("gpu-arch-not-in-build", stack)
    finding = only("gpu-arch-ptx-only", stack)
    assert finding.severity == "note" and "RTX 5080" in finding.message


@pytest.mark.parametrize(
    ("version", "gpu", "severity"),
    [
        ("2.5.1+cu121", "NVIDIA GeForce RTX 5090", "error"),  # a listed build
        ("2.6.0+cu124", "NVIDIA GeForce RTX 5090", "error"),  # by what its CUDA can build for
        ("1.7.0+cu101", "NVIDIA GeForce RTX 3090", "error"),  # older than the list
        ("2.4.0", "NVIDIA GeForce RTX 5090", "error"),  # no build of this release has it
        ("2.8.0+cu128", "NVIDIA GeForce RTX 5090", None),
        ("2.8.0+cu128", "Tesla P100-PCIE-16GB", "error"),
        ("2.9.0+cu130", "Tesla V100-SXM2-16GB", "error"),
        ("2.9.0+cu126", "Tesla V100-SXM2-16GB", None),
        ("2.1.0+cu121", "NVIDIA GeForce RTX 4090", None),  # sm_86 code runs on 8.9
        ("2.5.0a0+b465a5843b.nv24.09", "NVIDIA GeForce RTX 5090", None),  # NVIDIA's own build: not known
        ("2.5.0+cpu", "NVIDIA GeForce RTX 5090", None),
        ("2.4.0+rocm6.1", "NVIDIA GeForce RTX 5090", None),
    ],
)
def test_what_a_version_alone_tells(version: str, gpu: str, severity: str | None) -> None:
    stack = f'[[gpu]]\nname = "{gpu}"\n[package.pip]\ntorch = {{ version = "{version}" }}\n'
    said = found("gpu-arch-not-in-build", stack, source="import")
    assert [finding.severity for finding in said] == ([severity] if severity else [])


def test_pypis_own_build_is_only_likely() -> None:
    stack = '[[gpu]]\nname = "NVIDIA H100 PCIe"\n[package.pip]\ntorch = { version = "2.0.1" }\n'
    finding = only("gpu-arch-not-in-build", stack, source="import")
    assert (finding.severity, finding.subject) == ("warning", "package.pip.torch")


def test_one_old_card_beside_a_good_one_is_no_error() -> None:
    stack = """
[[gpu]]
compute_capability = "3.5"
[[gpu]]
compute_capability = "8.0"
[framework.torch]
archs = ["sm_70", "sm_80"]
"""
    assert only("gpu-arch-not-in-build", stack).severity == "warning"


def test_an_extension_that_needs_a_newer_gpu() -> None:
    stack = '[[gpu]]\nname = "{}"\n[package.pip]\nflash-attn = {{ version = "2.6.3" }}\n'
    finding = only("gpu-arch-not-in-build", stack.format("Tesla T4"))
    assert finding.subject == "package.pip.flash-attn" and "8.0" in finding.message
    assert not found("gpu-arch-not-in-build", stack.format("NVIDIA A10G"))


def test_what_the_binary_holds_outranks_the_table() -> None:
    stack = """
[[gpu]]
name = "NVIDIA A40"
[framework.flash-attn]
version = "2.6.3"
archs = ["sm_90"]
"""
    finding = only("gpu-arch-not-in-build", stack)
    assert (finding.subject, finding.severity) == ("framework.flash-attn.archs", "error")


def test_an_arch_list_that_leaves_out_the_gpu() -> None:
    stack = '[[gpu]]\nname = "NVIDIA A40"\n[environ]\nTORCH_CUDA_ARCH_LIST = "{}"\n'
    finding = only("gpu-arch-not-in-build", stack.format("7.0 7.5"))
    assert finding.subject == "environ.TORCH_CUDA_ARCH_LIST"
    assert [fix.to for fix in finding.fixes] == ["7.0 7.5 8.6"]
    assert not found("gpu-arch-not-in-build", stack.format("7.0;8.0"))
    assert not found("gpu-arch-not-in-build", stack.format("7.0+PTX"))


def test_a_release_that_the_matrix_does_not_know_is_unknown() -> None:
    stack = '[[gpu]]\nname = "NVIDIA A40"\n[framework.torch]\nversion = "2.99.0"\n'
    result = check(stack)
    assert not [each for each in result.findings if each.rule == "gpu-arch-not-in-build"]
    assert any("2.99.0" in each.needs for each in result.unknown if each.rule == "gpu-arch-not-in-build")


@pytest.mark.parametrize(
    ("nvcc", "gpu", "severity"),
    [("11.7.99", "NVIDIA H100 PCIe", "warning"), ("11.7.99", "NVIDIA L4", "note"), ("13.0.48", "Tesla P40", "warning"),
     ("12.4.131", "NVIDIA H100 PCIe", None)],
)  # fmt: skip
def test_what_nvcc_can_build_for(nvcc: str, gpu: str, severity: str | None) -> None:
    stack = f'[[gpu]]\nname = "{gpu}"\n[[toolkit]]\nversion = "{nvcc}"\nactive = true\n'
    said = found("toolkit-gpu-unsupported", stack)
    assert [finding.severity for finding in said] == ([severity] if severity else [])
    assert all(finding.fixes for finding in said)


def test_the_toolkits_folder_may_name_its_version() -> None:
    stack = '[[gpu]]\nname = "NVIDIA H100 PCIe"\n[[toolkit]]\npath = "/usr/local/cuda-10.2"\nactive = true\n'
    assert "nvcc 10.2" in only("toolkit-gpu-unsupported", stack).message


@pytest.mark.parametrize(
    ("value", "hidden"),
    [("", True), ("-1", True), ("2", True), ("0,3", True), ("'0'", True), ("MIG-1,MIG-2", True), ("0,1", False),
     ("GPU-***", False), ("MIG-7", False)],
)  # fmt: skip
def test_what_cuda_visible_devices_hides(value: str, hidden: bool) -> None:
    stack = f'[[gpu]]\nname = "NVIDIA A40"\ncount = 2\n[environ]\nCUDA_VISIBLE_DEVICES = "{value}"\n'
    said = found("gpu-hidden", stack)
    assert [finding.subject for finding in said] == ["environ.CUDA_VISIBLE_DEVICES"] * hidden
    assert all(finding.fixes for finding in said)


def test_a_paste_may_name_fewer_gpus_than_there_are() -> None:
    stack = '[[gpu]]\nname = "NVIDIA A40"\n[environ]\nCUDA_VISIBLE_DEVICES = "3"\n'
    assert not found("gpu-hidden", stack, source="import")


def test_builds_for_windows_hold_older_gpus_longer() -> None:
    stack = '[host]\nplatform = "{}"\n[[gpu]]\nname = "{}"\n[framework.torch]\nversion = "2.7.0+cu128"\n'
    assert found("gpu-arch-not-in-build", stack.format("linux", "Tesla V100-SXM2-16GB"))
    assert not found("gpu-arch-not-in-build", stack.format("windows", "Tesla V100-SXM2-16GB"))


def test_other_peoples_builds_are_not_those_of_the_list() -> None:
    stack = """
[[gpu]]
name = "NVIDIA GeForce RTX 5090"
[package.conda]
pytorch = {{ version = "2.6.0", build = "{}", channel = "{}" }}
"""
    assert not found("gpu-arch-not-in-build", stack.format("cuda128_mkl_py311_h1_300", "conda-forge"))
    assert found("gpu-arch-not-in-build", stack.format("py3.11_cuda12.4_cudnn9.1.0_0", "pytorch"))


@pytest.mark.parametrize("name", ["RTX4090", "rtx 4090", "NVIDIA GeForce RTX 4090 Laptop GPU"])
def test_a_gpus_name_as_people_write_it(name: str) -> None:
    stack = f'[[gpu]]\nname = "{name}"\n[[toolkit]]\nversion = "11.3"\n'
    assert "sm_89" in only("toolkit-gpu-unsupported", stack).message


def test_a_paste_that_states_the_cuda_of_torch_and_not_the_release() -> None:
    stack = '[[gpu]]\nname = "{}"\n[framework.torch]\ncuda = "{}"\n'
    assert found("gpu-arch-not-in-build", stack.format("Tesla P100-PCIE-16GB", "12.8"), source="import")
    # Some release for 12.8 has Volta, and none before it is left out.
    assert not found("gpu-arch-not-in-build", stack.format("Tesla V100-SXM2-16GB", "12.8"), source="import")
    assert not found("gpu-arch-not-in-build", stack.format("Tesla P100-PCIE-16GB", "12.6"), source="import")
    assert not found("gpu-arch-not-in-build", stack.format("Tesla P100-PCIE-16GB", "12.8"))


def test_an_extension_without_a_version_has_what_all_its_listed_releases_have() -> None:
    stack = '[[gpu]]\nname = "{}"\n[package.pip]\nflash-attn = {{}}\n'
    assert found("gpu-arch-not-in-build", stack.format("2080Ti"), source="import")
    assert not found("gpu-arch-not-in-build", stack.format("2080Ti"))
    assert not found("gpu-arch-not-in-build", stack.format("NVIDIA A100-SXM4-40GB"), source="import")


def test_a_paste_with_the_variable_that_hides_all_gpus() -> None:
    stack = '[environ]\nCUDA_VISIBLE_DEVICES = "{}"\n'
    assert found("gpu-hidden", stack.format("-1"), source="import")
    assert not found("gpu-hidden", stack.format("0"), source="import")
    assert not found("gpu-hidden", stack.format("-1"))


def test_a_pytorch_before_the_matrix_on_a_gpu_that_no_build_knows() -> None:
    stack = '[[gpu]]\ncompute_capability = "{}"\n[framework.torch]\n{}\n'
    finding = only("gpu-arch-not-in-build", stack.format("3.0", 'version = "1.3.1"'), source="import")
    assert finding.severity == "warning"
    assert found("gpu-arch-not-in-build", stack.format("2.1", ""), source="import")
    assert not found("gpu-arch-not-in-build", stack.format("3.5", 'version = "1.3.1"'), source="import")
    assert not found("gpu-arch-not-in-build", stack.format("3.0", 'version = "0.2.0"'), source="import")
    assert not found("gpu-arch-not-in-build", stack.format("3.0", 'version = "1.3.1a0+own"'), source="import")


# ---- the assembler that Triton brings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triton", "gpu", "told"),
    [("3.2.0", "NVIDIA GeForce RTX 5090", True), ("3.3.0", "NVIDIA GeForce RTX 5090", False),
     ("3.5.0+git7416ffcb", "DGX Spark", True), ("3.6.0", "DGX Spark", False), ("3.5.0", "NVIDIA H100", False),
     ("3.2.0", "Tesla K80", False)],
)  # fmt: skip
def test_tritons_ptxas_knows_the_gpu(triton: str, gpu: str, told: bool) -> None:
    stack = f'[[gpu]]\nname = "{gpu}"\n[package.pip]\ntriton = {{ version = "{triton}" }}\n'
    findings = found("toolkit-gpu-unsupported", stack)
    assert [each.subject for each in findings] == (["package.pip.triton"] if told else [])
    assert not found(
        "toolkit-gpu-unsupported", stack + '[environ]\nTRITON_PTXAS_PATH = "/usr/local/cuda/bin/ptxas"\n'
    )


def test_ptx_alone_is_told_where_the_release_has_builds_of_several_cudas() -> None:
    stack = '[[gpu]]\nname = "RTX 3090"\n[framework.torch]\nversion = "1.4.0"\n'
    assert only("gpu-arch-ptx-only", stack).subject == "framework.torch.version"
    assert not found("gpu-arch-ptx-only", stack.replace("RTX 3090", "Tesla V100"))


# ---- ranges of releases that ask for a newer GPU --------------------------------------------------------------


def test_vllm_asks_for_volta_or_newer() -> None:
    stack = '[[gpu]]\nname = "Tesla P40"\n[package.pip]\nvllm = {}\n'
    finding = only("gpu-arch-not-in-build", stack)
    assert (finding.subject, finding.severity) == ("package.pip.vllm", "warning")
    assert not found("gpu-arch-not-in-build", stack.replace("Tesla P40", "Tesla V100"))
    mixed = '[[gpu]]\nname = "Tesla V100"\n' + stack
    assert not found("gpu-arch-not-in-build", mixed)  # it can use the other one
    assert not found("gpu-arch-not-in-build", stack + '[framework.vllm]\narchs = ["sm_61"]\n')


def test_torch_compile_asks_for_volta_which_matters_to_those_who_use_it() -> None:
    stack = '[[gpu]]\nname = "GTX 1080"\n[package.pip]\ntriton = { version = "2.1.0" }\n'
    finding = only("gpu-arch-not-in-build", stack)
    assert (finding.subject, finding.severity, finding.quiet) == ("package.pip.triton", "note", True)
    alone = '[[gpu]]\nname = "GTX 1080"\n[framework.torch]\nversion = "2.0.0+cu118"\ncuda = "11.8"\n'
    assert only("gpu-arch-not-in-build", alone, "import").subject == "framework.torch.version"
    assert not found("gpu-arch-not-in-build", alone)
    assert not found(
        "gpu-arch-not-in-build",
        alone.replace("2.0.0+cu118", "1.13.1+cu117").replace("11.8", "11.7"),
        "import",
    )
