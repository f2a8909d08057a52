"""Framework rules: one stack that breaks each, and near misses that do not."""

import pytest

from envlock.manifest.read import loads as read
from envlock.rules.engine import run
from envlock.rules.framework import loads, readings
from tests.rules.support import found, matrix, only

GPU = '[[gpu]]\nname = "NVIDIA A100-SXM4-40GB"\ncompute_capability = "8.0"\n[driver]\nversion = "550.54.15"\n'


def pip(**versions):
    lines = [f'{name.replace("_", "-")} = {{ version = "{text}" }}' for name, text in versions.items()]
    return "[package.pip]\n" + "\n".join(lines) + "\n"


# ---- cpu-build-installed


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


# ---- framework-companion-mismatch


def test_a_torchvision_of_another_torch_is_an_error_and_its_own_release_cures_it():
    finding = only("framework-companion-mismatch", pip(torch="2.4.0", torchvision="0.20.1"))
    assert (finding.subject, finding.severity) == ("package.pip.torchvision", "error")
    assert "2.4.0" in finding.message
    assert {fix.to for fix in finding.fixes} >= {"0.19.0"}


def test_what_the_wheel_says_itself_outranks_the_table():
    text = pip(torch="2.5.1", torchvision="0.19.0") + '[requires]\ntorchvision = ["numpy", "torch==2.5.1"]\n'
    assert found("framework-companion-mismatch", text) == []


@pytest.mark.parametrize(
    "versions",
    [
        {"torch": "2.4.0+cu124", "torchvision": "0.19.0+cu124"},
        {"torch": "2.5.0a0+e000cf0ad9.nv24.10", "torchvision": "0.20.0a0"},
        {"torch": "2.6.0", "torchcodec": "0.2.1", "torchdata": "0.11.0"},
    ],
)
def test_companions_that_belong_together_are_left_alone(versions):
    assert found("framework-companion-mismatch", pip(**versions)) == []


def test_a_companion_built_for_another_cuda_major_is_an_error():
    finding = only("framework-companion-mismatch", pip(torch="2.4.0+cu124", torchvision="0.19.0+cu118"))
    assert finding.severity == "error"
    assert "CUDA 11.8" in finding.message
    assert "CUDA 12.4" in finding.message
    assert finding.fixes[0].to == "0.19.0+cu124"


def test_a_companion_is_held_to_torchs_cuda_where_no_version_is_stated():
    text = '[framework.torch]\ncuda = "11.7"\n[framework.torchvision]\ncuda = "{}"\n'
    finding = only("framework-companion-mismatch", text.format("11.8"), "import")
    assert (finding.subject, finding.severity) == ("framework.torchvision", "warning")
    assert found("framework-companion-mismatch", text.format("11.7"), "import") == []


@pytest.mark.parametrize(("torch", "verdict"), [("2.99.0+cu130", "unknown"), ("2.15.0", "fine")])
def test_a_torch_newer_than_the_matrix_is_unknown_neither_fine_nor_wrong(torch, verdict):
    stack = f'schema = "envlock/1"\n[framework.torch]\nversion = "{torch}"\ncuda = "13.0"\n'
    result = run(read(stack + pip(torch=torch, torchvision="0.30.0")), matrix())
    assert result.verdict == verdict
    assert not result.findings
    assert ["torch 2.99.0+cu130" in each.needs for each in result.unknown] == [True] * (verdict == "unknown")


def test_the_last_torchtext_does_not_follow_later_torches():
    assert (
        only("framework-companion-mismatch", pip(torch="2.5.1", torchtext="0.18.0")).subject
        == "package.pip.torchtext"
    )
    assert found("framework-companion-mismatch", pip(torch="2.3.1", torchtext="0.18.0")) == []


def test_a_jaxlib_newer_than_jax_and_a_plugin_of_another_jaxlib():
    finding = only("framework-companion-mismatch", pip(jax="0.4.30", jaxlib="0.4.35"))
    assert (finding.subject, finding.severity) == ("package.pip.jaxlib", "error")
    plugin = only(
        "framework-companion-mismatch", pip(jax="0.5.0", jaxlib="0.5.0", jax_cuda12_plugin="0.4.38")
    )
    assert plugin.subject == "package.pip.jax-cuda12-plugin"
    assert (
        found("framework-companion-mismatch", pip(jax="0.5.0", jaxlib="0.5.0", jax_cuda12_plugin="0.5.0"))
        == []
    )


def test_keras_3_does_not_belong_to_tensorflow_2_15():
    finding = only("framework-companion-mismatch", pip(tensorflow="2.15.0", keras="3.3.3"))
    assert (finding.subject, finding.severity) == ("package.pip.keras", "error")
    assert found("framework-companion-mismatch", pip(tensorflow="2.16.1", keras="3.3.3")) == []


def test_a_companion_that_asks_for_no_release_of_torch_is_believed():
    text = pip(torch="2.4.0", torchdata="0.7.0")
    assert only("framework-companion-mismatch", text).subject == "package.pip.torchdata"
    assert (
        found("framework-companion-mismatch", text + '[requires]\ntorchdata = ["requests", "torch>=2"]\n')
        == []
    )
    other = text + '[requires]\ntorchdata = ["requests", "urllib3>=1.25"]\n'
    assert only("framework-companion-mismatch", other).subject == "package.pip.torchdata"


@pytest.mark.parametrize(
    ("release", "known"), [("2.0.0", False), ("2.1.0", True), ("2.20.0", True), ("2.21.0", False)]
)
def test_tensorboard_follows_tensorflow_from_2_1_to_2_20(release, known):
    said = found("framework-companion-mismatch", pip(tensorflow=release, tensorboard="2.9.0"))
    assert bool(said) is known


def test_the_plugin_after_one_that_belongs_is_looked_at_too():
    text = pip(jaxlib="0.5.0", jax_cuda12_pjrt="0.5", jax_cuda12_plugin="0.4.38")
    assert only("framework-companion-mismatch", text).subject == "package.pip.jax-cuda12-plugin"


# ---- extension-abi-mismatch


def test_a_wheel_whose_name_says_another_torch():
    text = pip(torch="2.7.0", flash_attn="2.7.4.post1+cu12torch2.6cxx11abiFALSE")
    finding = only("extension-abi-mismatch", text)
    assert (finding.subject, finding.severity) == ("package.pip.flash-attn", "error")
    assert "torch 2.6" in finding.message
    assert finding.fixes[0].to == "2.6"
    near = pip(torch="2.6.0", flash_attn="2.7.4.post1+cu12torch2.6cxx11abiFALSE")
    assert found("extension-abi-mismatch", near) == []


def test_a_cxx_abi_other_than_torchs():
    text = '[framework.torch]\nversion = "2.6.0"\ncxx11_abi = false\n[framework.apex]\ncxx11_abi = {}\n'
    finding = only("extension-abi-mismatch", text.format("true"))
    assert finding.subject == "framework.apex"
    assert "old C++ ABI" in finding.message
    assert found("extension-abi-mismatch", text.format("false")) == []


def test_xformers_is_built_for_one_torch():
    finding = only("extension-abi-mismatch", pip(torch="2.5.1", xformers="0.0.27"))
    assert (finding.subject, finding.severity) == ("package.pip.xformers", "error")
    assert any(fix.address == "package.pip.xformers" for fix in finding.fixes)
    assert found("extension-abi-mismatch", pip(torch="2.5.1", xformers="0.0.28.post3")) == []


def test_a_conda_build_that_names_its_torch():
    text = (
        '[package.conda]\npytorch = {{ version = "2.4.0", build = "py3.11_cuda12.1_cudnn9.1.0_0" }}\n'
        'pytorch-scatter = {{ version = "2.1.2", build = "py311_torch_{}_cu121" }}\n'
    )
    finding = only("extension-abi-mismatch", text.format("2.1.0"))
    assert finding.subject == "package.conda.pytorch-scatter"
    assert "torch 2.1.0" in finding.message
    assert found("extension-abi-mismatch", text.format("2.4.0")) == []


def test_a_library_that_the_extension_was_not_compiled_with():
    text = (
        '[framework.h5py]\nbuilt_for = {{ hdf5 = "1.14.2" }}\n[package.conda]\nhdf5 = {{ version = "{}" }}\n'
    )
    assert "hdf5 1.12.1" in only("extension-abi-mismatch", text.format("1.12.1")).message
    assert found("extension-abi-mismatch", text.format("1.14.2")) == []


@pytest.mark.parametrize(("name", "told"), [("flash-attn", 1), ("mmcv", 1), ("ext", 0)])
def test_a_cuda_that_nobody_links_to_torch_says_nothing(name, told):
    text = f'[framework.{name}]\ncuda = "11.8"\n' + pip(torch="2.4.0+cu124")
    assert len(found("extension-abi-mismatch", text)) == told


def test_a_wheel_for_another_cuda_major_than_torchs():
    wheel = "2.7.4.post1+cu{}torch2.6cxx11abiFALSE"
    finding = only("extension-abi-mismatch", pip(torch="2.6.0+cu124", flash_attn=wheel.format("11")))
    assert "was built for CUDA 11, and torch 2.6.0+cu124 (CUDA 12.4) is installed" in finding.message
    assert found("extension-abi-mismatch", pip(torch="2.6.0+cu124", flash_attn=wheel.format("12"))) == []


@pytest.mark.parametrize(
    ("digits", "read"),
    [
        ("26", "2.6"),
        ("1100", "1.10.0"),
        ("113", "1.13"),
        ("270", "2.7.0"),
        ("210", "2.10"),
        ("210", "2.1.0"),
        ("2.4", "2.4"),
    ],
)
def test_versions_without_dots_are_read_in_every_way_that_makes_sense(digits, read):
    assert read in readings(digits)


# ---- framework-python-unsupported, framework-cuda-mismatch, framework-known-bad


def test_a_torch_without_a_build_for_this_python():
    finding = only(
        "framework-python-unsupported", '[python]\nversion = "3.13.1"\n' + pip(torch="2.3.0"), "import"
    )
    assert (finding.subject, finding.severity) == ("package.pip.torch", "error")
    assert finding.fixes[0].address == "python.version"
    assert (
        found("framework-python-unsupported", '[python]\nversion = "3.12.1"\n' + pip(torch="2.3.0"), "import")
        == []
    )


def test_a_framework_that_was_seen_compiled_for_this_python_is_somebodys_own_build():
    text = '[python]\nversion = "3.13.1"\n[framework.torch]\nversion = "2.3.0"\n' + pip(torch="2.3.0")
    assert [finding.severity for finding in found("framework-python-unsupported", text)] == ["warning"]


def test_a_conda_package_for_another_python_is_the_solvers_to_judge():
    text = '[python]\nversion = "3.13.1"\n'
    for table, severity in (("conda", "warning"), ("pip", "error")):
        packages = f'[package.{table}]\nnumba = {{ version = "0.60.0" }}\n'
        assert only("framework-python-unsupported", text + packages).severity == severity


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
    assert "CUDA 12" in only("framework-cuda-mismatch", TOOLKIT.format("11.8") + packages).message
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


def test_bitsandbytes_has_a_binary_a_cuda():
    finding = only("framework-cuda-mismatch", pip(torch="2.9.0+cu130", bitsandbytes="0.45.5"))
    assert "CUDA 13.0" in finding.message
    assert any(fix.address == "package.pip.bitsandbytes" for fix in finding.fixes)
    assert found("framework-cuda-mismatch", pip(torch="2.6.0+cu124", bitsandbytes="0.45.5")) == []


def test_a_known_defect_of_one_build_does_not_touch_the_other():
    bad = '[framework.torch]\nversion = "1.8.0"\ncuda = "{}"\n'
    finding = only("framework-known-bad", bad.format("10.2"))
    assert finding.severity == "warning"
    assert finding.fixes[0].to == ">=1.8.1"
    assert found("framework-known-bad", bad.format("11.1")) == []


def test_the_cuda_of_an_extension_that_links_against_torch() -> None:
    stack = '[framework.torch]\ncuda = "{}"\n[framework.{}]\ncuda = "{}"\n'
    assert only("extension-abi-mismatch", stack.format("11.8", "mmcv-full", "10.1")).severity == "error"
    assert not found("extension-abi-mismatch", stack.format("11.8", "mmcv-full", "11.6"))
    # These compare the CUDA themselves: another minor is refused by some of their releases.
    assert only("extension-abi-mismatch", stack.format("10.1", "torch-scatter", "10.2")).severity == "warning"
    assert not found("extension-abi-mismatch", stack.format("10.2", "torch-scatter", "10.2"))
    assert not found("extension-abi-mismatch", stack.format("11.8", "ctranslate2", "12"))


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
    assert not found("framework-cuda-mismatch", stack.format("12.4"))


def test_a_paste_may_name_its_cuda_by_nvcc_alone() -> None:
    stack = '[compiler]\nnvcc = "10.2.89"\n[package.pip]\ntensorflow = { version = "2.1.0" }\n'
    assert only("framework-cuda-mismatch", stack, "import").subject == "compiler.nvcc"
    assert not found("framework-cuda-mismatch", stack.replace("10.2.89", "10.1.243"), "import")
