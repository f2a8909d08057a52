"""The CUDA that a framework finds: one stack that breaks each, and near misses that do not."""

import pytest

from envlock.rules.framework_cuda import loads
from tests.rules.support import found, only, pip


@pytest.mark.parametrize(
    ("built", "have", "does"),
    [("unknown", "12.4", True), ("12.4", "unknown", True), ("11.0", "11", True), ("11", "11.0", True),
     ("10.1", "10.2", False), ("11.0", "11.2", False), ("11.2", "11.8", True), ("11.2", "11.0", False), ("12.3", "12.8", True),
     ("12", "12.8", True), ("11.8", "12.1", False)],
)  # fmt: skip
def test_sonames_decide_which_cuda_serves(built, have, does):
    assert loads(built, have) is does


TOOLKIT = '[[toolkit]]\nversion = "{}"\npath = "/usr/local/cuda"\nactive = true\n'


def test_tensorflow_finds_a_cuda_that_it_was_not_built_for():
    finding = only("framework-cuda-mismatch", TOOLKIT.format("12.1") + pip(tensorflow="2.10.0"))
    assert (finding.subject, finding.severity) == ("toolkit", "error")
    assert "11.2" in finding.message
    assert found("framework-cuda-mismatch", TOOLKIT.format("11.8") + pip(tensorflow="2.10.0")) == []


@pytest.mark.parametrize(
    "packages",
    [
        pip(tensorflow_cpu="2.10.0"),
        pip(intel_tensorflow="2.10.0"),
        '[package.conda]\ntensorflow = { version = "2.10.0" }\n',
        pip(tensorflow="2.10.0") + '[framework.tensorflow]\ncuda = ""\n',
    ],
)
def test_a_tensorflow_that_loads_no_cuda_of_the_machine(packages):
    assert found("framework-cuda-mismatch", TOOLKIT.format("12.1") + packages) == []


@pytest.mark.parametrize("name", ["cudatoolkit", "cuda-cudart", "cuda-runtime", "cuda-toolkit"])
def test_conda_packages_that_bring_a_cuda(name):
    text = pip(tensorflow="2.10.0") + f'[package.conda]\n{name} = {{ version = "12.1.0" }}\n'
    assert only("framework-cuda-mismatch", text).subject == f"package.conda.{name}"


def test_two_toolkits_of_which_none_is_active_tell_nothing():
    one = '[[toolkit]]\nversion = "12.1"\n'
    packages = pip(tensorflow="2.10.0")
    assert only("framework-cuda-mismatch", one + packages).subject == "toolkit"
    assert found("framework-cuda-mismatch", one + one.replace("12.1", "12.4") + packages) == []
    both = one + one.replace("12.1", "12.4") + "active = true\n"
    assert "finds CUDA 12.4" in only("framework-cuda-mismatch", both + packages).message


def test_tensorflow_with_cuda_wheels_of_its_own_does_not_mind_the_toolkit():
    text = TOOLKIT.format("11.8") + pip(tensorflow="2.17.0", nvidia_cuda_runtime_cu12="12.3.101")
    assert found("framework-cuda-mismatch", text) == []


def test_onnxruntime_gpu_finds_another_major():
    packages = pip(onnxruntime_gpu="1.20.1")
    finding = only("framework-cuda-mismatch", TOOLKIT.format("11.8") + packages)
    assert "CUDA 12" in finding.message
    assert "11.8" in {fix.to for fix in finding.fixes}  # its build for CUDA 11 lies on another index
    assert found("framework-cuda-mismatch", TOOLKIT.format("12.4") + packages) == []


def test_cupy_is_a_package_a_cuda_major():
    packages = pip(cupy_cuda11x="13.3.0")
    finding = only("framework-cuda-mismatch", TOOLKIT.format("12.4") + packages)
    assert "cupy-cuda12x" in {fix.to for fix in finding.fixes}
    assert found("framework-cuda-mismatch", TOOLKIT.format("11.8") + packages) == []


@pytest.mark.parametrize(
    ("toolkit", "severity"), [("11.0", "warning"), ("11.8", None), ("12.4", "error"), ("10.2", "error")]
)
def test_cupys_wheel_for_cuda_11_begins_at_11_2(toolkit, severity):
    said_so = found("framework-cuda-mismatch", TOOLKIT.format(toolkit) + pip(cupy_cuda11x="12.3.0"))
    assert [finding.severity for finding in said_so] == ([severity] if severity else [])


def test_paddle_names_its_cuda_as_a_post_release():
    packages = pip(paddlepaddle_gpu="2.4.2.post117")
    finding = only("framework-cuda-mismatch", TOOLKIT.format("12.1") + packages)
    assert "CUDA 11.7" in finding.message
    assert finding.fixes
    assert found("framework-cuda-mismatch", TOOLKIT.format("11.8") + packages) == []


def test_the_only_cudart_of_a_pasted_report_is_the_one_that_is_found():
    library = '[[library]]\nname = "cudart"\nversion = "{}"\npath = "/usr/local/cuda/lib64/libcudart.so"\n'
    packages = pip(tensorflow="2.11.0")
    assert (
        only("framework-cuda-mismatch", library.format("12.4") + packages, "import").subject
        == "library.cudart"
    )
    assert found("framework-cuda-mismatch", library.format("11.2") + packages, "import") == []
    # On a root it is known that nothing loads this copy.
    assert found("framework-cuda-mismatch", library.format("12.4") + packages) == []


@pytest.mark.parametrize(
    ("user", "package"),
    [("paddle", 'paddlepaddle-gpu = { version = "2.4.2.post117" }'), ("mxnet", 'mxnet-cu102 = { version = "1.9.1" }'),
     ("cupy", 'cupy-cuda11x = { version = "12.3.0" }'), ("jax", 'jax-cuda11-plugin = { version = "0.4.20" }'),
     ("tensorflow", 'tensorflow = { version = "2.11.0" }')],
)  # fmt: skip
def test_only_the_cudart_that_a_framework_loads_counts(user, package):
    library = '[[library]]\nname = "cudart"\nversion = "12.4.127"\nused_by = ["{}"]\n'
    text = f"[package.pip]\n{package}\n"
    assert only("framework-cuda-mismatch", library.format(user) + text).subject == "library.cudart"
    assert found("framework-cuda-mismatch", library.format("other") + text) == []


def test_bitsandbytes_has_a_binary_a_cuda():
    finding = only("framework-cuda-mismatch", pip(torch="2.9.0+cu130", bitsandbytes="0.45.5"))
    assert "CUDA 13.0" in finding.message
    assert any(fix.address == "package.pip.bitsandbytes" for fix in finding.fixes)
    assert found("framework-cuda-mismatch", pip(torch="2.6.0+cu124", bitsandbytes="0.45.5")) == []


@pytest.mark.parametrize(
    ("version", "cuda", "fits"),
    [("1.5.1", "10.1", False), ("1.5.1", "10.2", True), ("1.10.0", "11.7", True), ("1.4.0", "10.1", True)],
)
def test_old_onnxruntime_and_the_cuda_whose_names_it_asks_for(version: str, cuda: str, fits: bool) -> None:
    stack = f'[[toolkit]]\nversion = "{cuda}"\n[package.pip]\nonnxruntime-gpu = {{ version = "{version}" }}\n'
    assert bool(found("framework-cuda-mismatch", stack)) is not fits


def test_onnxruntime_of_which_only_the_cuda_is_known() -> None:
    stack = '[framework.onnxruntime]\ncuda = "12"\n[[toolkit]]\nversion = "{}"\nactive = true\n'
    assert found("framework-cuda-mismatch", stack.format("13.1"))
    # Within CUDA 11 it asks for no name that another minor lacks.
    assert not found("framework-cuda-mismatch", stack.replace('"12"', '"11.0"').format("11.2"))
    assert not found("framework-cuda-mismatch", stack.format("12.4"))


def test_a_paste_may_name_its_cuda_by_nvcc_alone() -> None:
    stack = '[compiler]\nnvcc = "10.2.89"\n[package.pip]\ntensorflow = { version = "2.1.0" }\n'
    assert only("framework-cuda-mismatch", stack, "import").subject == "compiler.nvcc"
    assert not found("framework-cuda-mismatch", stack.replace("10.2.89", "10.1.243"), "import")


def test_any_framework_that_states_its_cuda_is_held_to_the_one_of_a_pasted_report() -> None:
    stack = '[[toolkit]]\nversion = "11.7"\nactive = true\n[framework.ctranslate2]\ncuda = "12"\n'
    assert only("framework-cuda-mismatch", stack, "import").subject == "toolkit"
    assert not found("framework-cuda-mismatch", stack)  # a real root tells what is loaded
    assert not found("framework-cuda-mismatch", stack.replace("11.7", "12.4"), "import")
    assert not found("framework-cuda-mismatch", stack.replace("ctranslate2", "torch"), "import")
    lone = '[[library]]\nname = "cudart"\nversion = "11.0"\n[framework.tensorflow]\ncuda = "10.0"\n'
    assert only("framework-cuda-mismatch", lone, "import").subject == "library.cudart"


def test_a_bitsandbytes_of_unknown_release_may_lack_the_binary() -> None:
    stack = '[[library]]\nname = "cudart"\nversion = "12.3"\nused_by = ["bitsandbytes"]\n[package.pip]\nbitsandbytes = {}\n'
    finding = only("framework-cuda-mismatch", stack, "import")
    assert (finding.subject, finding.severity, finding.quiet) == ("library.cudart", "note", True)
    assert not found("framework-cuda-mismatch", stack + '[framework.torch]\ncuda = "12.4"\n', "import")
