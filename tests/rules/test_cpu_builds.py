"""CPU builds beside a GPU: recognised by what is stated, by packages, channels and platforms, and near misses."""

import pytest

from tests.rules.support import found, only, pip

GPU = '[[gpu]]\nname = "NVIDIA A100-SXM4-40GB"\ncompute_capability = "8.0"\n[driver]\nversion = "550.54.15"\n'


def test_a_cpu_torch_beside_a_gpu_is_an_error_and_the_cuda_build_cures_it():
    text = GPU + '[framework.torch]\nversion = "2.4.0+cpu"\ncuda = ""\n' + pip(torch="2.4.0+cpu")
    finding = only("cpu-build-installed", text)
    assert (finding.severity, finding.subject) == ("error", "framework.torch.cuda")
    assert "A100" in finding.message
    assert finding.fixes
    assert "+cu" in finding.fixes[0].to


def test_a_cpu_image_without_any_gpu_fact_is_as_somebody_meant_it():
    assert found("cpu-build-installed", '[framework.torch]\nversion = "2.4.0+cpu"\ncuda = ""\n') == []


def test_conda_that_fell_back_to_a_cpu_build_is_told_by_its_build_string():
    text = '[package.conda]\npytorch = { version = "1.12.1", build = "py3.9_cpu_0" }\ncudatoolkit = { version = "11.3.1" }\n'
    finding = only("cpu-build-installed", text, "import")
    assert (finding.severity, finding.subject) == ("warning", "package.conda.pytorch")


@pytest.mark.parametrize(
    ("host", "version", "known"),
    [
        ('arch = "aarch64"', "2.9.1", True),
        ('arch = "aarch64"', "2.9.1+cu130", False),
        ('platform = "windows"', "2.3.0", True),
        ('platform = "linux"\narch = "x86_64"', "2.3.0", False),
    ],
)
def test_pypi_has_cpu_wheels_for_windows_and_arm(host, version, known):
    assert bool(found("cpu-build-installed", f"[host]\n{host}\n{GPU}{pip(torch=version)}", "import")) is known


def test_the_package_by_which_conda_chooses_the_cpu_build():
    text = (
        GPU
        + '[package.conda]\npytorch = { version = "2.1.0" }\npytorch-mutex = { version = "1.0", build = "BUILD" }\n'
    )
    assert only("cpu-build-installed", text.replace("BUILD", "cpu")).subject == "package.conda.pytorch-mutex"
    assert found("cpu-build-installed", text.replace("BUILD", "cuda")) == []


def test_a_second_framework_without_cuda_is_only_worth_a_note():
    text = GPU + '[framework.torch]\nversion = "2.4.0+cu124"\ncuda = "12.4"\n' + pip(onnxruntime="1.19.2")
    finding = only("cpu-build-installed", text)
    assert finding.subject == "package.pip.onnxruntime"
    assert finding.severity != "error"


@pytest.mark.parametrize(
    ("packages", "known"),
    [
        ('[package.conda]\ntensorflow = { version = "2.12.0", build = "mkl_py311h34a0fa1_0" }\n', True),
        ('[package.conda]\ntensorflow = { version = "2.12.0", build = "gpu_py311h65739b5_0" }\n', False),
        ('[package.conda]\njaxlib = { version = "0.4.23", build = "cpu_py311h1b2c3d4_0" }\n', True),
        ('[package.conda]\njaxlib = { version = "0.4.23", build = "cuda112py311h1b2c3d4_200" }\n', False),
        ('[package.pip]\ndgl = { version = "1.1.3" }\n', True),
        ('[package.pip]\ndgl = { version = "1.1.3+cu118" }\n', False),
        ('[host]\narch = "aarch64"\n[package.pip]\ntensorflow = { version = "2.15.0" }\n', True),
        ('[host]\narch = "aarch64"\n[package.pip]\ntensorflow = { version = "2.15.0+nv24.03" }\n', False),
        (
            '[host]\narch = "aarch64"\nplatform = "linux"\n[package.pip]\ntorch = { version = "2.11.0" }\n',
            False,
        ),
    ],
)
def test_builds_without_cuda_of_other_frameworks_and_channels(packages, known):
    assert bool(found("cpu-build-installed", GPU + packages, "import")) is known


@pytest.mark.parametrize(
    ("packages", "known"),
    [
        (pip(onnxruntime="1.19.2") + '[framework.onnxruntime]\ncuda = "12.4"\n', False),
        (pip(onnxruntime="1.19.2", onnxruntime_directml="1.19.2"), False),
        (pip(onnxruntime="1.19.2", onnxruntime_training="1.19.2"), False),
        (pip(tensorflow_cpu="2.15.0", tensorflow="2.15.0"), False),
        (pip(intel_tensorflow="2.15.0"), True),
        (pip(paddlepaddle="2.6.1"), True),
        (pip(paddlepaddle="2.6.1", paddlepaddle_gpu="2.6.1"), False),
        (pip(tensorflow="2.0.0"), True),
        (pip(tensorflow="2.0.0", tensorflow_gpu="2.0.0"), False),
        (pip(tensorflow="2.1.0"), False),
        (pip(jaxlib="0.4.20+cuda12.cudnn89"), False),
        (pip(jaxlib="0.4.35", jax_rocm60_plugin="0.4.35"), False),
        (pip(jaxlib="0.4.35") + '[framework.jax]\ncuda = "12.3"\n', False),
        ('[framework.torch]\nversion = "2.4.0+rocm6.1"\ncuda = ""\nhip = "6.1"\n', False),
        ('[host]\narch = "aarch64"\n' + pip(torch="2.9.0.dev20250901"), False),
        (
            '[host]\narch = "aarch64"\n[package.pip]\ntorch = { version = "2.9.0", source = "git+https://x/torch" }\n',
            False,
        ),
        ('[package.conda]\ntensorflow-base = { version = "2.12.0", build = "eigen_py311h1_0" }\n', True),
        (
            pip(tensorflow="2.12.0") + '[package.conda]\ntensorflow-base = { build = "eigen_py311h1_0" }\n',
            False,
        ),
    ],
)
def test_which_packages_are_cpu_builds(packages, known):
    assert bool(found("cpu-build-installed", GPU + packages)) is known


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ('[container]\nvisible_devices = "0"\n', "warning"),
        ('[container]\nvisible_devices = "void"\n', "note"),
        ('[container]\nvisible_devices = "none"\n', "note"),
        ('[container]\nvisible_devices = ""\n', "note"),
        ('[[toolkit]]\nversion = "12.4"\nactive = true\n', "warning"),
        ('[[toolkit]]\nversion = "12.4"\n', "note"),
        ('[package.pip]\nnvidia-cublas-cu12 = { version = "12.4.5.8" }\n', "warning"),
        ('[package.pip]\nnvidia-ml-py = { version = "12.560.30" }\n', "note"),
        ('[host]\nplatform = "darwin"\n', None),
    ],
)
def test_a_paste_tells_by_its_packages_whether_a_gpu_is_meant(said, severity):
    text = '[framework.torch]\nversion = "2.4.0+cpu"\ncuda = ""\n' + said
    assert [each.severity for each in found("cpu-build-installed", text, "import")] == [severity] * bool(
        severity
    )
