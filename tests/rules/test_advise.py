"""Which builds run on a stack, and the fixes that put another build in place of the installed one."""

from pathlib import Path

import pytest

from envlock.errors import EnvlockError
from envlock.manifest.address import replace
from envlock.manifest.read import load as load_manifest
from envlock.manifest.read import loads
from envlock.matrix.loader import load
from envlock.rules import engine
from envlock.rules.advise import (
    UnknownGpuError,
    builds_that_run,
    judge,
    rebuild_fixes,
    runs_code,
    stated_gpu,
)
from envlock.rules.builds import UnknownProjectError, builds, parsed
from envlock.rules.stack import Stack

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MACHINE = """
schema = "envlock/1"
[capture]
source = "import"
[driver]
version = "{driver}"
[[gpu]]
compute_capability = "{gpu}"
[python]
version = "{python}"
[os]
libc = "{libc}"
"""


@pytest.fixture(scope="module")
def matrix():
    return load()


def machine(driver="580.95.05", gpu="9.0", python="3.12.3", libc="glibc 2.39"):
    return Stack(loads(MACHINE.format(driver=driver, gpu=gpu, python=python, libc=libc)))


def verdicts(stack, matrix, project, specifier):
    return {each.build.label: each.runs for each in judge(stack, matrix, project, specifier)}


def why(stack, matrix, label, project="torch"):
    (one,) = [each for each in judge(stack, matrix, project) if each.build.label == label]
    return one.runs, [reason.text for reason in one.reasons]


def test_the_driver_decides_between_the_cudas_of_one_release(matrix):
    assert verdicts(machine(driver="550.54.14"), matrix, "torch", "==2.9.1") == {
        "2.9.1+cu128": "yes",
        "2.9.1+cu126": "yes",
        "2.9.1+cu130": "no",
    }
    # 525.60.13 is the first driver of CUDA 12's minor-version compatibility.
    assert why(machine(driver="525.60.13"), matrix, "2.9.1+cu126")[0] == "yes"
    runs, reasons = why(machine(driver="525.60.11"), matrix, "2.9.1+cu126")
    assert runs == "no" and reasons == ["CUDA 12 needs driver 525.60.13 or newer"]


def test_a_forward_compatibility_libcuda_lifts_the_drivers_limit(matrix):
    stack = Stack(replace(machine(driver="535.104.05").manifest, {"driver.compat": "13.0"}))
    assert why(stack, matrix, "2.9.1+cu130")[0] == "yes"
    assert why(machine(driver="535.104.05"), matrix, "2.9.1+cu130")[0] == "no"


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ("8.6", ("8.0",), True),  # a newer minor of the same major
        ("8.0", ("8.6",), False),  # an older minor
        ("9.0", ("8.0", "8.6"), False),  # another major
        ("12.1", ("12.0",), True),
        ("10.0", ("12.0",), False),
        ("12.0", ("10.0",), False),
    ],
)
def test_machine_code_runs_within_a_major_from_its_minor_on(capability, archs, runs):
    assert runs_code(capability, archs) is runs


def test_a_gpu_that_no_code_was_built_for(matrix):
    blackwell = machine(gpu="12.0")
    assert why(blackwell, matrix, "2.6.0+cu126") == ("no", ["it holds no code for sm_120"])
    assert why(blackwell, matrix, "2.7.0+cu128")[0] == "yes"
    volta = machine(gpu="7.0", driver="570.86.15")
    assert why(volta, matrix, "2.11.0+cu128")[0] == "no"
    assert why(volta, matrix, "2.11.0+cu126")[0] == "yes"


def test_ptx_needs_a_driver_of_the_toolkits_own_cuda(matrix):
    # torch 2.7 for CUDA 12.8 holds PTX of 12.0 beside code for it; a GPU of a major above has the PTX alone.
    change = {"gpu": [{"compute_capability": "13.0"}]}
    new = Stack(replace(machine(driver="570.86.15").manifest, change))
    old = Stack(replace(machine(driver="560.35.03").manifest, change))
    assert why(new, matrix, "2.7.0+cu128") == ("yes", ["a slow first start: sm_130 is compiled from PTX"])
    runs, reasons = why(old, matrix, "2.7.0+cu128")
    assert runs == "no" and "this one is for 12.6" in reasons[0]


def test_python_and_libc_decide_too(matrix):
    assert why(machine(python="3.9.18"), matrix, "2.9.1+cu128") == ("no", ["no wheel for Python 3.9.18"])
    assert why(machine(libc="glibc 2.27"), matrix, "2.9.1+cu128")[0] == "no"
    assert why(machine(libc="musl 1.2.5"), matrix, "2.9.1+cu128")[0] == "no"
    assert why(machine(libc="glibc 2.28"), matrix, "2.9.1+cu128")[0] == "yes"


def test_what_is_not_stated_is_missing_or_a_condition_and_never_guessed(matrix):
    bare = Stack(
        loads('schema = "envlock/1"\n[capture]\nsource = "import"\n[driver]\nversion = "580.95.05"\n')
    )
    runs, reasons = why(bare, matrix, "2.9.1+cu128")
    assert runs == "unknown" and reasons == ["gpu"]
    with_gpu = Stack(replace(bare.manifest, {"gpu": [{"compute_capability": "9.0"}]}))
    assert why(with_gpu, matrix, "2.9.1+cu128") == ("yes", ["Python >=3.10,<3.15", "glibc >=2.28"])


ELSEWHERE = "the matrix has the builds for Linux on x86-64 only, and this is "
NEW_GPU = [{"compute_capability": "13.0"}]


@pytest.mark.parametrize(
    ("changes", "label", "runs", "reasons"),
    [
        ({"host": {"platform": "darwin"}}, "2.9.1+cu128", "no", ["no CUDA build runs on macOS"]),
        ({"host": {"arch": "aarch64"}}, "2.9.1+cu128", "unknown", [ELSEWHERE + "aarch64"]),
        ({"host": {"arch": "aarch64", "platform": "wsl2"}}, "2.9.1+cu128", "unknown", [ELSEWHERE + "aarch64"]),
        ({"host": {"arch": "aarch64", "platform": "tegra"}}, "2.9.1+cu128", "unknown", [ELSEWHERE + "tegra"]),
        ({"host": {"arch": "AMD64", "platform": "windows"}}, "2.9.1+cu128", "unknown", [ELSEWHERE + "windows"]),
        ({"host": {"arch": "amd64", "platform": "wsl2"}}, "2.9.1+cu128", "yes", []),
        ({"python": {"abi": "cp39"}}, "2.9.1+cu128", "no", ["no wheel for Python 3.9"]),
        ({"python": {"abi": "cp312"}}, "2.9.1+cu128", "yes", []),
        ({"os": {"libc": "musl 1.2.5"}}, "2.9.1+cu128", "no", ["it needs glibc 2.28, and this system has musl 1.2.5"]),
        ({"os": {"libc": "glibc 2.27"}}, "2.9.1+cu128", "no", ["it needs glibc 2.28 or newer, not 2.27"]),
        ({"driver.version": "590.44.01", "gpu": [{"compute_capability": "7.0"}]}, "2.9.1+cu128", "no",
         ["driver 580 is the last for GPU (sm_70)"]),
        ({"driver.version": "560.35.03", "gpu": [{"name": "NVIDIA GeForce RTX 5090"}]}, "2.7.0+cu128", "no",
         ["NVIDIA GeForce RTX 5090 (sm_120) needs driver 570 or newer"]),
        ({"gpu": [{"name": "Some card"}]}, "2.9.1+cu128", "unknown", ["the compute capability of Some card"]),
        ({"driver.version": "560.35.03", "gpu": NEW_GPU}, "2.7.0+cu128", "no",
         ["it holds only PTX for sm_130, which needs a driver for CUDA 12.8, and this one is for 12.6"]),
        ({"driver.version": "570.86.15", "gpu": NEW_GPU}, "2.7.0+cu128", "yes",
         ["a slow first start: sm_130 is compiled from PTX"]),
        ({"driver.version": "999.1", "gpu": NEW_GPU}, "2.7.0+cu128", "unknown", ["driver.cuda"]),
    ],
)  # fmt: skip
def test_what_speaks_against_a_build_in_whole(matrix, changes, label, runs, reasons):
    assert why(Stack(replace(machine().manifest, changes)), matrix, label) == (runs, reasons)


def test_a_reason_says_what_a_build_is_for(matrix):
    details = {
        label: [reason.detail for reason in each.reasons]
        for each in judge(machine(gpu="12.0", python="3.9.18"), matrix, "torch")
        if (label := each.build.label) in ("2.6.0+cu126", "2.9.1+cu128")
    }
    assert details == {"2.6.0+cu126": ["only sm_50 to sm_90"], "2.9.1+cu128": ["it is for >=3.10,<3.15"]}


def test_where_only_the_oldest_python_is_listed_the_wheel_is_a_condition(matrix):
    assert why(machine(), matrix, "0.8.2+cu12", "jax") == ("yes", ["jax has wheels for Python 3.12"])
    assert why(machine(gpu="5.0"), matrix, "0.8.2+cu12", "jax") == (
        "no",
        ["it needs compute capability 5.2, which sm_50 is below"],
    )


@pytest.mark.parametrize(
    ("said", "runs", "reasons"),
    [
        ("", "no", ["no NVIDIA driver is installed"]),
        # The engine brings the driver when the container is started.
        ('[container]\nruntime = "docker"\n', "unknown", ["driver.version"]),
        ('[capture.unobserved]\ndriver = "no NVML"\n', "unknown", ["driver.version"]),
    ],
)
def test_a_driver_is_missing_only_where_it_was_looked_for(matrix, said, runs, reasons):
    text = f'schema = "envlock/1"\n[capture]\nsource = "live"\n{said}[[gpu]]\ncompute_capability = "9.0"\n'
    assert why(Stack(loads(text)), matrix, "2.9.1+cu128") == (runs, reasons)


def test_a_machine_that_could_not_be_seen_is_not_one_without_a_gpu(matrix):
    text = 'schema = "envlock/1"\n[capture]\nsource = "live"\n[capture.unobserved]\n{}driver = "no NVML"\n'
    for unseen in ('gpu = "no NVML"\n', ""):
        found = judge(Stack(loads(text.format(unseen))), matrix, "torch", "==2.9.1")
        assert {each.build.label for each in found} == {"2.9.1+cu126", "2.9.1+cu128", "2.9.1+cu130"}


def test_a_build_whose_architectures_the_matrix_lacks_is_unknown_unless_its_toolkit_cannot_build_them(matrix):
    assert why(machine(), matrix, "2.15.0+cu132")[0] == "unknown"
    assert why(machine(gpu="7.0"), matrix, "2.15.0+cu132") == ("no", ["CUDA 13 builds no code for sm_70"])


def test_the_installed_builds_own_architectures_outrank_the_table(matrix):
    framework = {"version": "2.9.1+cu128", "cuda": "12.8", "archs": ["sm_70", "sm_80"], "ptx": []}
    stack = Stack(replace(machine().manifest, {"framework.torch": framework}))
    assert why(stack, matrix, "2.9.1+cu128")[0] == "no"
    assert why(stack, matrix, "2.9.0+cu128")[0] == "yes"


def test_every_gpu_of_a_machine_has_to_be_served(matrix):
    both = [{"compute_capability": "9.0"}, {"compute_capability": "12.0"}]
    stack = Stack(replace(machine().manifest, {"gpu": both}))
    assert why(stack, matrix, "2.9.1+cu126")[0] == "no"
    assert why(stack, matrix, "2.9.1+cu128")[0] == "yes"


def test_a_driver_that_dropped_the_gpu_runs_nothing(matrix):
    assert builds_that_run(machine(driver="590.44.01", gpu="7.0"), matrix, "torch") == []


def test_other_machines_than_the_matrix_has_builds_for_are_unknown(matrix):
    stack = Stack(replace(machine().manifest, {"host": {"arch": "aarch64", "platform": "linux"}}))
    assert why(stack, matrix, "2.9.1+cu128")[0] == "unknown"


def test_a_machine_without_gpu_and_driver_runs_cpu_builds(matrix):
    none = loads(
        'schema = "envlock/1"\n[capture]\nsource = "live"\n[python]\nversion = "3.12.3"\n[os]\nlibc = "glibc 2.39"\n'
    )
    (first, *_) = builds_that_run(Stack(none), matrix, "torch", "==2.9.*")
    assert first.label == "2.9.1+cpu" and first.install.endswith("https://download.pytorch.org/whl/cpu")


def test_commands_are_those_of_pytorchs_own_pages(matrix):
    commands = {build.label: build.install for build in builds(matrix, "torch")}
    index = "https://download.pytorch.org/whl"
    assert commands["2.9.1+cu126"] == (
        f"pip install torch==2.9.1 torchvision==0.24.1 torchaudio==2.9.1 --index-url {index}/cu126"
    )
    assert commands["1.13.1+cu117"] == (
        "pip install torch==1.13.1+cu117 torchvision==0.14.1+cu117 torchaudio==0.13.1 "
        f"--extra-index-url {index}/cu117"
    )


def test_tensorflows_gpu_build_is_a_package_of_its_own_before_2_1_and_an_extra_since_2_14(matrix):
    commands = {build.version: build.install for build in builds(matrix, "tensorflow")}
    assert commands["1.15"] == 'pip install "tensorflow-gpu==1.15.*"'
    assert commands["2.0"] == 'pip install "tensorflow-gpu==2.0.*"'
    assert commands["2.1"] == 'pip install "tensorflow==2.1.*"'
    assert commands["2.14"] == 'pip install "tensorflow[and-cuda]==2.14.*"'


def test_builds_come_newest_first_and_the_default_before_others(matrix):
    labels = [build.label for build in builds(matrix, "torch", ">=2.9,<2.11") if build.cuda]
    assert labels[:3] == ["2.10.0+cu128", "2.10.0+cu130", "2.10.0+cu126"]
    assert [build.label for build in builds(matrix, "torch", "==2.9.1+cu130")] == ["2.9.1+cu130"]


def test_jax_by_its_cuda_major(matrix):
    found = verdicts(machine(driver="550.54.14"), matrix, "jax", "==0.8.2")
    assert found == {"0.8.2+cu13": "no", "0.8.2+cu12": "yes"}
    (build,) = [build for build in builds(matrix, "jax", "==0.8.2") if build.cuda == "12"]
    assert build.install == 'pip install "jax[cuda12]==0.8.2"'


@pytest.mark.parametrize("project", ["tensorflow", "onnxruntime-gpu"])
def test_where_the_matrix_says_nothing_of_gpus_nothing_is_claimed(matrix, project):
    assert "yes" not in {each.runs for each in judge(machine(), matrix, project)}
    old = {each.runs for each in judge(machine(driver="418.40.04"), matrix, project)}
    assert old == {"no"}


def test_requirements_are_read_and_refused_by_name(matrix):
    assert parsed("torch >= 2.6, <2.8") == ("torch", ">=2.6,<2.8")
    assert parsed("onnxruntime") == ("onnxruntime-gpu", "")
    with pytest.raises(EnvlockError, match="not a requirement"):
        parsed("==2.9")
    with pytest.raises(UnknownProjectError, match="no builds of 'numpy'"):
        judge(machine(), matrix, "numpy")


@pytest.mark.parametrize("text", ["9.0", "sm_90", "SM90", "compute_90", "90", "sm_90a"])
def test_a_gpu_stated_by_its_architecture(matrix, text):
    assert stated_gpu(text, matrix) == {"compute_capability": "9.0"}


def test_a_gpu_stated_by_name(matrix):
    assert stated_gpu("H100", matrix)["compute_capability"] == "9.0"
    assert stated_gpu("NVIDIA GeForce RTX 5090", matrix)["compute_capability"] == "12.0"
    with pytest.raises(UnknownGpuError, match="the matrix has no GPU 'RTX 9999': state its compute"):
        stated_gpu("RTX 9999", matrix)
    with pytest.raises(UnknownGpuError, match=r"did you mean NVIDIA H100 or Quadro T1000 or Quadro P1000[?]"):
        stated_gpu("H1000", matrix)
    with pytest.raises(UnknownGpuError, match=r"9\.9"):
        stated_gpu("9.9", matrix)


def survives(manifest, matrix, fix, rule):
    before = {(each.rule, each.subject) for each in engine.run(manifest, matrix, try_fixes=False).findings}
    after = {
        (each.rule, each.subject)
        for each in engine.run(replace(manifest, fix.trial), matrix, try_fixes=False).findings
    }
    return rule not in {name for name, _ in after} and not after - before


def test_the_fix_of_an_old_driver_names_a_build_with_its_companions(matrix):
    manifest = load_manifest(str(EXAMPLES / "old-driver.toml"))
    (fix,) = rebuild_fixes(Stack(manifest), matrix, "torch")
    assert fix.to == "2.7.1+cu118"
    assert "torchvision 0.22.1 and torchaudio 2.7.1" in fix.message
    assert fix.message.endswith("--index-url https://download.pytorch.org/whl/cu118")
    assert survives(manifest, matrix, fix, "driver-too-old-for-cuda")
    finding = engine.run(manifest, matrix).findings[0]
    assert fix.to in [each.to for each in finding.fixes]


def test_the_same_release_for_another_cuda_is_the_smaller_change(matrix):
    manifest = load_manifest(str(EXAMPLES / "train-h100.toml"))
    manifest = replace(manifest, {"framework.torch.version": "2.9.1+cu130", "framework.torch.cuda": "13.0",
                                  "driver.version": "550.54.14", "driver.kernel_module": "550.54.14",
                                  "driver.cuda": "12.4"})  # fmt: skip
    (fix,) = rebuild_fixes(Stack(manifest), matrix, "torch")
    assert fix.to == "2.9.1+cu128"
    # What the old build pinned goes; what other packages pin stays.
    assert fix.trial["package.pip.nvidia-cudnn-cu12"] is None
    assert "filelock" in fix.trial["requires.torch"]


def test_the_nearest_release_where_no_other_build_of_the_installed_one_runs(matrix):
    manifest = loads(
        MACHINE.format(driver="570.86.15", gpu="12.0", python="3.11.9", libc="glibc 2.35")
        + '[framework.torch]\nversion = "2.6.0+cu124"\ncuda = "12.4"\n'
    )
    assert [fix.to for fix in rebuild_fixes(Stack(manifest), matrix, "torch")] == ["2.7.0+cu128"]


CU130 = """
[framework.torch]
version = "2.9.1+cu130"
cuda = "13.0"
cudnn = "9.13.0"
archs = ["sm_75", "sm_90"]
[framework.torchvision]
version = "0.24.1+cu130"
cuda = "13.0"
[package.pip]
torch = { version = "2.9.1+cu130" }
torchvision = { version = "0.24.1+cu130" }
triton = { version = "3.5.1" }
nvidia-cudnn-cu13 = { version = "9.13.0.50" }
nvidia-nccl-cu13 = { version = "2.27.7" }
nvidia-ml-py = { version = "12.560.30" }
[requires]
torch = ["filelock", "nvidia-cudnn-cu13==9.13.0.50", "nvidia-nccl-cu13==2.27.7", "triton==3.5.1"]
torchvision = ["numpy", "torch==2.9.1"]
nvidia-cudnn-cu13 = ["nvidia-cublas"]
[[library]]
name = "cudnn"
version = "9.13.0.50"
soname = "libcudnn.so.9"
path = "/venv/nvidia/cudnn/lib/libcudnn.so.9"
provider = "pip:nvidia-cudnn-cu13"
used_by = ["torch"]
[[library]]
name = "cudnn"
version = "8.9.7"
path = "/usr/lib/libcudnn.so.8"
[[library]]
name = "nccl"
version = "2.27.7"
provider = "pip:nvidia-nccl-cu13"
used_by = ["torch"]
[[library]]
name = "mpi"
version = "4.1"
"""


def test_what_another_build_of_torch_takes_along(matrix):
    text = MACHINE.format(driver="550.54.14", gpu="9.0", python="3.11.9", libc="glibc 2.35") + CU130
    (fix,) = rebuild_fixes(
        Stack(loads(text.replace('source = "import"', 'source = "live"'))), matrix, "torch"
    )
    assert fix.message == (
        "install torch 2.9.1+cu128 with torchvision 0.24.1: pip install torch==2.9.1 torchvision==0.24.1 "
        "--index-url https://download.pytorch.org/whl/cu128"
    )
    assert fix.trial == {
        "framework.torch.version": "2.9.1+cu128",
        "framework.torch.cuda": "12.8",
        "framework.torch.archs": ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
        "framework.torch.ptx": [],
        "framework.torch.cudnn": "9.10.2.21",
        "framework.torch.nccl": None,
        "package.pip.torch.version": "2.9.1+cu128",
        "package.pip.torchvision.version": "0.24.1+cu128",
        "framework.torchvision.version": "0.24.1+cu128",
        "framework.torchvision.cuda": "12.8",
        "framework.torchvision.archs": None,
        "framework.torchvision.built_for": {},
        "requires.torchvision": ["torch==2.9.1", "numpy"],
        # The same release asks for the same triton, for which one wheel serves every CUDA.
        "package.pip.triton.version": "3.5.1",
        "package.pip.nvidia-cudnn-cu13": None,
        "package.pip.nvidia-nccl-cu13": None,
        "requires.nvidia-cudnn-cu13": None,
        "requires.torch": ["filelock"],
        "library.cudnn": [
            {"name": "cudnn", "used_by": ("torch",), "version": "9.10.2.21", "cuda": "12"},
            {"name": "cudnn", "version": "8.9.7", "path": "/usr/lib/libcudnn.so.8"},
        ],
        "library.nccl": [{"name": "nccl", "used_by": ("torch",), "cuda": "12"}],
    }


def test_a_torch_that_conda_brought_is_not_replaced_by_pip(matrix):
    manifest = loads(
        MACHINE.format(driver="470.256.02", gpu="8.0", python="3.11.9", libc="glibc 2.35")
        + '[package.conda]\npytorch = { version = "2.4.0", build = "py3.11_cuda12.4_cudnn9.1.0_0" }\n'
    )
    assert rebuild_fixes(Stack(manifest), matrix, "torch") == ()


def test_where_the_gpu_or_driver_is_not_known_a_fix_says_for_which_it_is(matrix):
    no_gpu = loads(
        'schema = "envlock/1"\n[capture]\nsource = "import"\n[driver]\nversion = "535.104.05"\n'
        '[framework.torch]\nversion = "2.10.0+cu130"\ncuda = "13.0"\n'
    )
    (fix,) = rebuild_fixes(Stack(no_gpu), matrix, "torch")
    assert fix.to == "2.10.0+cu128" and "(for GPUs from sm_70 to sm_120)" in fix.message
    no_driver = loads(
        'schema = "envlock/1"\n[capture]\nsource = "import"\n[[gpu]]\ncompute_capability = "7.0"\n'
        '[framework.torch]\nversion = "2.9+cu130"\ncuda = "13.0"\n'
    )
    (fix,) = rebuild_fixes(Stack(no_driver), matrix, "torch")
    assert fix.to == "2.9.0+cu128" and "(for driver 525.60.13 or newer)" in fix.message


def test_a_pasted_report_s_nvidia_wheels_move_with_torch_in_a_fix():
    text = (
        'schema = "envlock/1"\n[capture]\nsource = "import"\n[driver]\nversion = "570.86.16"\n'
        '[[gpu]]\nname = "NVIDIA GeForce RTX 5090"\ncount = 1\n[framework.torch]\nversion = "2.4.0+cu124"\ncuda = "12.4"\n'
        '[os]\nlibc = "glibc 2.35"\n[python]\nversion = "3.11.9"\n'
        '[package.pip]\ntorch = { version = "2.4.0+cu124" }\nnvidia-cudnn-cu12 = { version = "9.1.0.70" }\n'
    )
    from envlock import check
    from envlock.manifest.read import loads

    finding = next(each for each in check(loads(text)).findings if each.rule == "gpu-arch-not-in-build")
    # 2.7.0 brings a cuDNN of its own: the one that does not know this GPU goes with the old torch.
    assert [fix.to for fix in finding.fixes] == ["2.7.0+cu128"]
