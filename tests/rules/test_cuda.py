"""Rules about CUDA's libraries and toolkit, each with a stack that breaks it and a near miss."""

from __future__ import annotations

import pytest

from tests.rules.support import check, found, only

TWO_NVJITLINKS = """
[[library]]
name = "nvjitlink"
version = "{own}"
soname = "libnvJitLink.so.12"
path = "/venv/lib/python3.11/site-packages/nvidia/nvjitlink/lib/libnvJitLink.so.12"
provider = "pip:nvidia-nvjitlink-cu12"
[[library]]
name = "nvjitlink"
version = "{other}"
soname = "libnvJitLink.so.12"
path = "/opt/cuda/lib64/libnvJitLink.so.12"
provider = "file"
used_by = ["torch"]
[framework.torch]
cuda = "12.6"
[environ]
LD_LIBRARY_PATH = "/opt/cuda/lib64:/opt/other"
"""


def test_an_older_copy_on_the_search_path_wins() -> None:
    finding = only("cuda-library-shadowed", TWO_NVJITLINKS.format(own="12.6.85", other="12.2.140"))
    assert (finding.subject, finding.severity) == ("library.nvjitlink", "error")
    assert "12.2.140" in finding.message and "12.6.85" in finding.message
    assert {"library.nvjitlink", "environ.LD_LIBRARY_PATH"} <= {each.address for each in finding.evidence}
    (fix,) = finding.fixes
    assert fix.trial["environ.LD_LIBRARY_PATH"] == "/opt/other"


def test_a_newer_minor_is_worth_a_note() -> None:
    stack = TWO_NVJITLINKS.format(own="12.6.85", other="12.8.61")
    assert only("cuda-library-shadowed", stack).severity == "note"


def test_a_copy_that_nothing_uses_is_no_matter() -> None:
    stack = TWO_NVJITLINKS.format(own="12.6.85", other="12.2.140").replace('used_by = ["torch"]', "")
    assert not found("cuda-library-shadowed", stack)


PINNED = """
[framework.torch]
version = "2.5.1+cu124"
cuda = "12.4"
[package.pip]
torch = {{ version = "2.5.1+cu124" }}
nvidia-{part}-cu12 = {{ version = "{version}" }}
[requires]
torch = ["nvidia-nvjitlink-cu12==12.4.127", "nvidia-cublas-cu12==12.4.5.8"]
"""


@pytest.mark.parametrize(
    ("part", "version", "severity"),
    [("nvjitlink", "12.1.105", "error"), ("nvjitlink", "12.6.20", "warning"), ("cublas", "12.1.3.1", "warning"),
     ("cublas", "12.4.5.8", None)],
)  # fmt: skip
def test_components_are_those_that_the_wheel_pins(part: str, version: str, severity: str | None) -> None:
    said = found("cuda-component-mismatch", PINNED.format(part=part, version=version))
    assert [finding.severity for finding in said] == ([severity] if severity else [])
    assert all(finding.fixes for finding in said)
    assert all(finding.subject == f"package.pip.nvidia-{part}-cu12" for finding in said)


def test_without_metadata_the_builds_cuda_tells_what_belongs_to_it() -> None:
    stack = PINNED.format(part="nvjitlink", version="12.1.105").partition("[requires]")[0]
    assert only("cuda-component-mismatch", stack).severity == "error"
    stack = PINNED.format(part="nvjitlink", version="12.4.99").partition("[requires]")[0]
    assert not found("cuda-component-mismatch", stack)


def test_wheels_of_two_majors() -> None:
    stack = """
[framework.torch]
version = "2.5.1+cu124"
[package.pip]
torch = { version = "2.5.1+cu124" }
nvidia-nccl-cu11 = { version = "2.19.3" }
nvidia-nccl-cu12 = { version = "2.21.5" }
nvidia-ml-py = { version = "12.560.30" }
"""
    finding = only("cuda-majors-mixed", stack)
    assert finding.subject == "package.pip.nvidia-nccl-cu11"
    assert [fix.trial for fix in finding.fixes] == [{"package.pip.nvidia-nccl-cu11": None}]
    assert not found("cuda-majors-mixed", stack.replace("nvidia-nccl-cu11", "nvidia-cublas-cu12"))


def test_the_stray_major_may_be_the_newer_one() -> None:
    stack = """
[framework.torch]
version = "2.4.0+cu118"
[package.pip]
nvidia-cuda-runtime-cu11 = { version = "11.8.89" }
nvidia-cuda-runtime-cu12 = { version = "12.4.127" }
"""
    assert only("cuda-majors-mixed", stack).subject == "package.pip.nvidia-cuda-runtime-cu12"


def test_two_frameworks_of_two_majors_are_worth_a_note() -> None:
    stack = """
[framework.torch]
cuda = "11.8"
[framework.tensorflow]
cuda = "12.3"
[package.pip]
nvidia-cublas-cu11 = {}
nvidia-cublas-cu12 = {}
"""
    assert only("cuda-majors-mixed", stack).severity == "note"


def test_a_library_of_two_majors_in_one_process() -> None:
    stack = """
[[library]]
name = "cublas"
version = "11.11.3.6"
soname = "libcublas.so.11"
used_by = ["torch"]
[[library]]
name = "cublas"
version = "12.4.5.8"
soname = "libcublas.so.12"
used_by = ["torch"]
"""
    assert only("cuda-majors-mixed", stack).severity == "error"
    assert not found("cuda-majors-mixed", stack.replace('["torch"]', '["jax"]', 1))


PTX = """
[driver]
version = "535.104.05"
cuda = "12.2"
[[gpu]]
name = "NVIDIA GeForce RTX 5090"
[framework.torch]
version = "2.5.1"
cuda = "{cuda}"
archs = ["sm_80", "sm_90"]
ptx = ["compute_90"]
"""


def test_ptx_of_a_newer_cuda_than_the_drivers() -> None:
    finding = only("cuda-ptx-too-new", PTX.format(cuda="12.4"))
    assert (finding.subject, finding.severity) == ("driver.cuda", "error")
    assert "12.2" in finding.message and "12.4" in finding.message
    assert not found("cuda-ptx-too-new", PTX.format(cuda="12.1"))


def test_machine_code_is_covered_by_minor_version_compatibility() -> None:
    assert not found("cuda-ptx-too-new", PTX.format(cuda="12.4").replace("RTX 5090", "RTX 4090"))


def test_numba_hands_the_driver_ptx() -> None:
    stack = """
[driver]
cuda = "12.0"
[package.pip]
numba = { version = "0.59.1" }
[package.conda]
cuda-nvcc = { version = "12.4.131" }
"""
    assert only("cuda-ptx-too-new", stack).severity == "warning"
    quiet = stack + '[environ]\nNUMBA_CUDA_ENABLE_MINOR_VERSION_COMPATIBILITY = "1"\n'
    assert not found("cuda-ptx-too-new", quiet)


@pytest.mark.parametrize(
    ("nvcc", "torch", "severity"),
    [("12.4.131", "2.4.0+cu118", "warning"), ("12.6.20", "2.5.1+cu124", "note"), ("12.4.131", "2.5.1+cu124", None),
     ("11.1.105", "1.8.1+cu102", "warning"), ("11.3.109", "1.10.0+cu111", "warning")],
)  # fmt: skip
def test_nvcc_and_pytorch_are_of_one_cuda(nvcc: str, torch: str, severity: str | None) -> None:
    stack = (
        f'[[toolkit]]\nversion = "{nvcc}"\nactive = true\n[package.pip]\ntorch = {{ version = "{torch}" }}\n'
    )
    # Nobody builds here: a toolkit that merely lies there is a note at most.
    assert [each.severity for each in found("toolkit-framework-mismatch", stack)] == (
        ["note"] if severity else []
    )
    said = found("toolkit-framework-mismatch", stack + '[environ]\nCUDA_HOME = "/usr/local/cuda"\n')
    assert [finding.severity for finding in said] == ([severity] if severity else [])
    for finding in said:
        assert finding.subject == "toolkit" and nvcc in finding.message and torch in finding.message
        assert finding.fixes


def test_conda_builds_tell_their_cuda() -> None:
    stack = """
[[toolkit]]
version = "12.2.140"
active = true
[package.conda]
pytorch = { version = "2.0.1", build = "py3.10_cuda11.8_cudnn8.7.0_0", channel = "pytorch" }
"""
    assert "11.8" in only("toolkit-framework-mismatch", stack).message


def test_a_toolkit_that_is_not_selected_is_no_matter() -> None:
    stack = '[[toolkit]]\nversion = "11.8.89"\nactive = false\n[framework.torch]\ncuda = "12.4"\n'
    assert not found("toolkit-framework-mismatch", stack)


@pytest.mark.parametrize(
    ("nvcc", "compiler", "side"),
    [("11.8.89", 'gcc = "13.2.0"', "new"), ("12.4.131", 'gcc = "13.2.0"', None), ("12.4.131", 'gcc = "4.8.5"', "old"),
     ("12.4.131", 'cxx = "clang 18.1.3"', "new"), ("12.4.131", 'cxx = "g++ 14.1.0"', "new"),
     ("12.2.91", 'cxx = "cl 19.40.33811"', "new"), ("12.2.91", 'cxx = "cl 19.38.33130"', None)],
)  # fmt: skip
def test_the_host_compilers_that_nvcc_supports(nvcc: str, compiler: str, side: str | None) -> None:
    stack = f'[[toolkit]]\nversion = "{nvcc}"\nactive = true\n[compiler]\n{compiler}\n'
    said = found("host-compiler-unsupported", stack)
    assert len(said) == (side is not None)
    for finding in said:
        assert finding.severity == "warning" and f"too {side}" in finding.message and nvcc in finding.message
        assert finding.fixes


def test_a_compiler_chosen_for_nvcc_is_not_the_default_one() -> None:
    stack = '[[toolkit]]\nversion = "11.8"\nactive = true\n[compiler]\ngcc = "13.2.0"\n[environ]\n{}\n'
    assert found("host-compiler-unsupported", stack.format(""))
    assert not found("host-compiler-unsupported", stack.format('NVCC_CCBIN = "gcc-11"'))
    assert not found(
        "host-compiler-unsupported", stack.format('NVCC_PREPEND_FLAGS = "-allow-unsupported-compiler"')
    )


def test_a_toolkit_without_a_row_is_unknown() -> None:
    stack = '[[toolkit]]\nversion = "99.0"\nactive = true\n[compiler]\ngcc = "13.2.0"\n'
    assert [each.rule for each in check(stack).unknown] == ["host-compiler-unsupported"]


TENSORFLOW = '[[gpu]]\nname = "NVIDIA A40"\n[framework.tensorflow]\nversion = "2.15.0"\ncuda = "12.2"\n'


def test_a_framework_without_any_of_its_libraries() -> None:
    finding = only("cuda-runtime-missing", TENSORFLOW)
    assert (finding.severity, finding.subject) == ("error", "library.cublas")
    assert not found("cuda-runtime-missing", TENSORFLOW, source="import")
    there = TENSORFLOW + '[[library]]\nname = "cublas"\n[[library]]\nname = "cudnn"\n'
    assert not found("cuda-runtime-missing", there)


def test_libraries_that_could_not_be_looked_for_are_not_missing() -> None:
    stack = '[capture.unobserved]\nlibrary = "cannot be read"\n' + TENSORFLOW
    assert not found("cuda-runtime-missing", stack)


@pytest.mark.parametrize(("toolkit", "missing"), [("10.1.243", True), ("10.0.130", False)])
def test_before_cuda_11_the_minor_is_part_of_the_soname(toolkit: str, missing: bool) -> None:
    stack = (
        f'[[toolkit]]\nversion = "{toolkit}"\n[[toolkit]]\nversion = "10.2.89"\n'
        '[framework.tensorflow]\nversion = "1.14"\ncuda = "10.0"\n'
    )
    assert [finding.subject for finding in found("cuda-runtime-missing", stack, source="import")] == [
        "toolkit"
    ] * missing


def test_a_toolkit_in_use_of_another_soname_is_told_once() -> None:
    stack = '[[toolkit]]\nversion = "10.1.243"\n[framework.tensorflow]\nversion = "1.14"\ncuda = "10.0"\n'
    assert not found("cuda-runtime-missing", stack, source="import")
    assert only("framework-cuda-mismatch", stack, source="import").subject == "toolkit"


def test_a_needed_library_that_the_search_does_not_find() -> None:
    stack = '[framework.onnxruntime]\ncuda = ""\nneeds = { library = "libcublasLt.so.12" }\n'
    assert only("cuda-runtime-missing", stack).subject == "framework.onnxruntime.needs"
    assert not found("cuda-runtime-missing", stack.replace("libcublasLt.so.12", "libGL.so.1"))


def test_a_cuda_library_is_seen_behind_another_that_is_none() -> None:
    stack = '[framework.ext]\nneeds = { library = "libGL.so.1, libcudart.so.11.0, libcublas.so.11" }\n'
    finding = only("cuda-runtime-missing", stack)
    assert "libcudart.so.11.0 and libcublas.so.11" in finding.message
    assert "libGL" not in finding.message


def test_cuda_home_selects_among_toolkits() -> None:
    stack = """
[[toolkit]]
version = "11.8.89"
path = "/usr/local/cuda-11.8"
[[toolkit]]
version = "12.4.131"
path = "/usr/local/cuda-12.4"
[framework.torch]
cuda = "12.4"
[environ]
CUDA_HOME = "/usr/local/cuda-{}/"
"""
    finding = only("toolkit-framework-mismatch", stack.format("11.8"))
    assert "environ.CUDA_HOME" in {each.address for each in finding.evidence}
    assert [fix.trial["toolkit"][0]["version"] for fix in finding.fixes][:1] == ["12.4.131"]
    assert not found("toolkit-framework-mismatch", stack.format("12.4"))


def test_a_paste_names_the_frameworks_own_copy_as_a_package() -> None:
    stack = """
[[library]]
name = "nvjitlink"
path = "/usr/local/cuda-12.1/lib64/libnvJitLink.so.12"
used_by = ["torch"]
[package.pip]
torch = {{ version = "2.5.1" }}
{} = {{}}
[environ]
LD_LIBRARY_PATH = "/usr/local/cuda-12.1/lib64"
"""
    finding = only("cuda-library-shadowed", stack.format("nvidia-nvjitlink-cu12"), source="import")
    assert finding.subject == "library.nvjitlink"
    assert not found("cuda-library-shadowed", stack.format("nvidia-cublas-cu12"), source="import")
    assert not found("cuda-library-shadowed", stack.format("nvidia-nvjitlink-cu12"))


def test_openmm_hands_the_driver_ptx_of_its_toolkit() -> None:
    stack = '[driver]\ncuda = "11.2"\n[package.conda]\ncudatoolkit = {{ version = "{}" }}\nopenmm = {{}}\n'
    assert only("cuda-ptx-too-new", stack.format("11.7.0")).severity == "warning"
    assert not found("cuda-ptx-too-new", stack.format("11.2.2"))


# ---- a toolkit that is not there, or whose version is not stated ---------------------------------------------


def test_a_report_that_found_no_toolkit_is_told_that_nothing_can_be_compiled() -> None:
    stack = """
[capture.unobserved]
toolkit = "no nvcc on PATH"
[framework.torch]
"""
    stack = stack.replace("[capture.unobserved]", '[capture]\nsource = "import"\n[capture.unobserved]')
    finding = only("toolkit-missing", stack)
    assert (finding.subject, finding.severity, finding.quiet) == ("toolkit", "note", True)
    assert "no nvcc on PATH" in finding.message
    assert not found("toolkit-missing", stack + '[[toolkit]]\nversion = "12.4"\n')
    assert not found("toolkit-missing", "[framework.torch]\n", "import")  # nobody said that they looked
    assert not found("toolkit-missing", stack.replace('source = "import"', 'source = "image"'))


@pytest.mark.parametrize(
    ("image", "told"),
    [("nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04", True), ("docker.io/nvidia/cuda:12.4.1-base-ubuntu22.04", True),
     ("pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime", True), ("nvidia/cuda:12.4.1-devel-ubuntu22.04", False),
     ("nvcr.io/nvidia/pytorch:24.05-py3", False)],
)  # fmt: skip
def test_the_runtime_flavour_of_an_image_brings_no_compiler(image: str, told: bool) -> None:
    assert bool(found("toolkit-missing", f'[container]\nimage = "{image}"\n', "import")) is told


def test_a_compiler_without_a_toolkit_is_told_which_toolkits_refuse_it() -> None:
    finding = only("host-compiler-unsupported", '[compiler]\ngcc = "9.4.0"\n', "import")
    assert (finding.subject, finding.severity, finding.quiet) == ("compiler.gcc", "note", True)
    assert "before 11.0" in finding.message
    unversioned = (
        '[[toolkit]]\npath = "/usr/lib/cuda"\nactive = true\n[compiler]\ngcc = "9.4.0"\n[framework.torch]\n'
    )
    assert found("host-compiler-unsupported", unversioned, "import")


@pytest.mark.parametrize(
    "stack",
    ['[compiler]\ngcc = "9.4.0"\n[framework.torch]\ncuda = "12.4"\n', '[compiler]\ngcc = "4.8.5"\n',
     '[compiler]\ngcc = "99"\n', '[compiler]\ngcc = "9.4.0"\n[environ]\nNVCC_CCBIN = "g++-8"\n'],
)  # fmt: skip
def test_a_compiler_that_no_toolkit_refuses_or_that_nobody_asks_about_is_no_matter(stack: str) -> None:
    assert not found("host-compiler-unsupported", stack, "import")
    assert not found("host-compiler-unsupported", '[compiler]\ngcc = "9.4.0"\n')


# ---- two halves of cuBLAS, and known defects ------------------------------------------------------------------

HALVES = """
[[library]]
name = "cublas"
soname = "libcublas.so.12"
provider = "pip:nvidia-cublas-cu12"
used_by = ["torch"]
[[library]]
name = "cublas"
soname = "libcublasLt.so.12"
path = "/usr/local/cuda/lib64/libcublasLt.so.12"
provider = "file"
used_by = ["torch"]
"""


def test_the_halves_of_cublas_come_from_one_place() -> None:
    finding = only("cuda-library-shadowed", HALVES)
    assert finding.subject == "library.cublas" and "two halves" in finding.message
    assert not found("cuda-library-shadowed", HALVES.replace('"file"', '"pip:nvidia-cublas-cu12"'))
    assert not found("cuda-library-shadowed", HALVES.replace('used_by = ["torch"]', "", 1))
    same = HALVES.replace('name = "cublas"', 'name = "cublas"\nversion = "12.4.5.8"')
    assert not found("cuda-library-shadowed", same)


PASCAL = '[[gpu]]\nname = "GTX 1080 Ti"\ncompute_capability = "6.1"\n'


def test_a_defect_of_cublas_is_told_by_its_version_and_by_the_cuda_that_brings_it() -> None:
    own = PASCAL + '[[library]]\nname = "cublas"\nversion = "9.0.176"\nused_by = ["torch"]\n'
    finding = only("cuda-known-bad", own)
    assert (finding.subject, finding.severity, finding.quiet) == ("library.cublas", "note", True)
    brought = PASCAL + '[framework.torch]\ncuda = "9.0"\n'
    assert only("cuda-known-bad", brought, "import").subject == "framework.torch.cuda"
    assert not found("cuda-known-bad", brought)  # a rare use, and nobody reports a failure
    assert not found("cuda-known-bad", own.replace('"9.0.176"', '"9.2.148"'))
    assert not found("cuda-known-bad", own.replace('"6.1"', '"7.0"').replace("GTX 1080 Ti", "Tesla V100"))


def test_wrong_products_on_blackwell_are_a_warning() -> None:
    blackwell = '[[gpu]]\nname = "NVIDIA B200"\n[package.pip]\nnvidia-cublas-cu12 = {{ version = "{}" }}\n'
    assert only("cuda-known-bad", blackwell.format("12.9.1.4")).severity == "warning"
    assert not found("cuda-known-bad", blackwell.format("12.6.4.1"))
    assert not found("cuda-known-bad", blackwell.format("12.9.1.4").replace("B200", "H100"))


def test_an_old_ptxas_matters_to_xla_alone() -> None:
    toolkit = '[[toolkit]]\nversion = "10.2.89"\nactive = true\n'
    finding = only("cuda-known-bad", toolkit + "[framework.jax]\n")
    assert (finding.subject, finding.severity) == ("toolkit", "warning")
    assert not found("cuda-known-bad", toolkit + "[framework.torch]\n")
    assert not found("cuda-known-bad", toolkit.replace("10.2.89", "11.4.152") + "[framework.jax]\n")
    wheel = '[package.pip]\nnvidia-cuda-nvcc-cu12 = { version = "12.8.93" }\n'
    assert not found("cuda-known-bad", toolkit + "[framework.jax]\n" + wheel)  # jax takes the wheel's
