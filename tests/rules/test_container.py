"""Rules about containers, each with a stack that breaks it and a near miss."""

from __future__ import annotations

import pytest

from tests.rules.support import found, only

IMAGE = """
[driver]
version = "{driver}"
[[gpu]]
name = "{gpu}"
[container]
require = "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=tesla,driver>=535,driver<536"
"""


def test_an_image_for_a_newer_driver() -> None:
    finding = only("image-requirement-unmet", IMAGE.format(driver="525.85.12", gpu="NVIDIA A100-SXM4-40GB"))
    assert (finding.subject, finding.severity) == ("container.require", "error")
    assert "cuda>=12.4" in finding.message and "525.85.12" in finding.message
    assert [fix.address for fix in finding.fixes] == ["driver.version"]


@pytest.mark.parametrize(
    ("driver", "gpu"),
    [("550.54.14", "NVIDIA GeForce RTX 4090"), ("535.104.05", "NVIDIA A100-SXM4-40GB")],
)
def test_natively_or_by_forward_compatibility(driver: str, gpu: str) -> None:
    assert not found("image-requirement-unmet", IMAGE.format(driver=driver, gpu=gpu))


def test_forward_compatibility_is_for_some_brands() -> None:
    assert found("image-requirement-unmet", IMAGE.format(driver="535.104.05", gpu="NVIDIA GeForce RTX 4090"))


def test_an_unseen_driver_leaves_nothing_to_say() -> None:
    assert not found("image-requirement-unmet", '[container]\nrequire = "cuda>=12.4"\n', source="import")


def test_a_container_that_runs_was_not_refused() -> None:
    stack = '[driver]\nversion = "535.104.05"\n[container]\nruntime = "docker"\nrequire = "cuda>=12.4"\n'
    assert only("image-requirement-unmet", stack).severity == "warning"


def test_requirements_may_be_known_by_their_variables() -> None:
    stack = '[driver]\nversion = "525.85.12"\n[environ]\nNVIDIA_REQUIRE_CUDA = "cuda>=12.4"\n{}\n'
    assert only("image-requirement-unmet", stack.format("")).subject == "environ.NVIDIA_REQUIRE_CUDA"
    assert not found("image-requirement-unmet", stack.format('NVIDIA_DISABLE_REQUIRE = "1"'))


def test_an_old_image_asks_by_cuda_version() -> None:
    stack = '[driver]\nversion = "525.85.12"\n{}[environ]\nCUDA_VERSION = "12.4.1"\n'
    assert only("image-requirement-unmet", stack.format('[container]\nruntime = "docker"\n'), source="import")
    assert not found("image-requirement-unmet", stack.format(""), source="import")


def test_a_requirement_that_cannot_be_read() -> None:
    assert only("image-requirement-unmet", '[container]\nrequire = "nonsense"\n').severity == "warning"


NO_DRIVER = '[capture.unobserved]\ndriver = "no driver"\n[container]\nruntime = "docker"\n'


def test_a_container_without_a_driver() -> None:
    stack = NO_DRIVER + '[framework.torch]\ncuda = "12.4"\n'
    assert only("container-without-gpu", stack).severity == "note"
    pasted = stack.replace("[capture.unobserved]", '[capture]\nsource = "import"\n[capture.unobserved]')
    assert only("container-without-gpu", pasted).severity == "error"


@pytest.mark.parametrize(
    "near_miss",
    [
        NO_DRIVER,  # a container on a machine without GPUs
        NO_DRIVER + '[framework.torch]\ncuda = ""\n',
        '[capture]\nsource = "image"\n' + NO_DRIVER + '[framework.torch]\ncuda = "12.4"\n',
        '[container]\nruntime = "docker"\n[driver]\nversion = "550.54.14"\n[framework.torch]\ncuda = "12.4"\n',
    ],
)
def test_containers_in_order(near_miss: str) -> None:
    assert not found("container-without-gpu", near_miss)


def test_a_paste_that_says_nothing_of_the_driver() -> None:
    stack = '[container]\nruntime = "docker"\n[framework.torch]\ncuda = "12.4"\n'
    assert not found("container-without-gpu", stack, source="import")


@pytest.mark.parametrize("value", ["none", "void"])
def test_no_visible_devices(value: str) -> None:
    stack = f'[container]\nvisible_devices = "{value}"\n'
    assert only("container-without-gpu", stack).subject == "container.visible_devices"
    # Under CDI the runtime itself sets "void" beside the devices that it gives.
    assert not found(
        "container-without-gpu", stack + '[[gpu]]\nname = "NVIDIA A40"\n[driver]\nversion = "550.1"\n'
    )


@pytest.mark.parametrize(
    ("value", "severity"),
    [("utility", "error"), ("video,utility", "error"), ("compute", "warning"), ("compute,utility", None), ("all", None),
     ("graphics, compute, utility", None)],
)  # fmt: skip
def test_capabilities(value: str, severity: str | None) -> None:
    stack = f'[container]\nvisible_devices = "all"\ndriver_capabilities = "{value}"\n'
    said = found("container-without-gpu", stack, source="import")
    assert [finding.severity for finding in said] == ([severity] if severity else [])
    assert all([fix.to for fix in finding.fixes] == ["compute,utility"] for finding in said)


def test_a_toolkit_with_a_defect_that_applies() -> None:
    stack = '[container]\ntoolkit = "{}"\nruntime = "{}"\n[driver]\nversion = "550.54.14"\n'
    finding = only("container-toolkit-mismatch", stack.format("1.17.7", "enroot"))
    assert (finding.subject, finding.severity) == ("container.toolkit", "error")
    assert [fix.to for fix in finding.fixes] == [">=1.17.8"]
    assert not found("container-toolkit-mismatch", stack.format("1.17.7", "docker"))
    assert not found("container-toolkit-mismatch", stack.format("1.17.8", "enroot"))


def test_no_toolkit() -> None:
    stack = '[container]\ntoolkit = ""\nimage = "nvidia/cuda:12.4.1-base"\n'
    assert only("container-toolkit-mismatch", stack, source="import").severity == "error"
    assert (
        only(
            "container-toolkit-mismatch", '[container]\ntoolkit = ""\n[[gpu]]\nname = "NVIDIA A40"\n'
        ).severity
        == "note"
    )
    assert not found("container-toolkit-mismatch", '[container]\ntoolkit = ""\n')
    assert not found(
        "container-toolkit-mismatch", '[container]\nimage = "nvidia/cuda:12.4.1-base"\n', source="import"
    )


def test_a_linux_driver_in_wsl() -> None:
    stack = '[host]\nplatform = "{}"\n[driver]\nlibcuda = "{}"\n[package.system]\n{} = "550.1"\n'
    real = "/usr/lib/wsl/lib/libcuda.so.1.1"
    linux = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14"
    error = only("wsl-driver-conflict", stack.format("wsl2", linux, "nvidia-driver-550"))
    assert (error.severity, error.subject) == ("error", "driver.libcuda")
    assert [fix.trial for fix in error.fixes] == [
        {"driver.libcuda": None, "package.system.nvidia-driver-550": None}
    ]
    installed = only("wsl-driver-conflict", stack.format("wsl2", real, "libnvidia-compute-550"))
    assert (installed.severity, installed.subject) == ("warning", "package.system.libnvidia-compute-550")
    assert not found("wsl-driver-conflict", stack.format("wsl2", real, "nvidia-cuda-toolkit"))
    assert not found("wsl-driver-conflict", stack.format("linux", linux, "nvidia-driver-550"))


@pytest.mark.parametrize(
    "libcuda",
    [
        "/usr/lib/wsl/lib/libcuda.so.1.1",
        "/usr/lib/wsl/drivers/libcuda.so.550.54.14",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1.1",  # a copy of the one of WSL
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "/usr/local/cuda/compat/libcuda.so.550.54.14",
        "/usr/local/cuda/lib64/stubs/libcuda.so.550.54.14",
    ],
)
def test_a_libcuda_in_wsl_that_is_no_linux_driver(libcuda: str) -> None:
    stack = f'[host]\nplatform = "wsl2"\n[driver]\nlibcuda = "{libcuda}"\n'
    assert not found("wsl-driver-conflict", stack)


def test_a_container_in_wsl_is_given_its_libcuda() -> None:
    stack = '[host]\nplatform = "wsl2"\n[driver]\nlibcuda = "/usr/lib/libcuda.so.550.54.14"\n'
    assert found("wsl-driver-conflict", stack)
    assert not found("wsl-driver-conflict", stack + '[container]\nruntime = "docker"\n')


@pytest.mark.parametrize(
    ("toolkit", "rest", "severity"),
    [
        ("1.17.1", '[environ]\nCUDA_VERSION = "12.4.1"', "error"),
        ("1.17.1", '[environ]\nCUDA_VERSION = "12.4.1"\nNVIDIA_REQUIRE_CUDA = "cuda>=12.4"', None),
        ("1.17.1", "", None),
        ("1.17.3", '[driver]\nversion = "565.57.01"', "warning"),
        ("1.17.3", '[driver]\nversion = "570.86.15"', None),
        ("1.17.3", "", None),
        ("1.17.4", '[driver]\ncompat = "12.8"', "warning"),
        ("1.17.4", '[[library]]\nname = "cuda-compat"', "warning"),
        ("1.17.4", "", None),
        ("1.17.7", '[os]\nid = "arch"', "error"),
        ("1.17.7", '[os]\nid = "debian"', None),
        ("1.17.7", '[container]\nruntime = "pyxis"', "error"),
        ("1.17.7", "", None),
    ],
)
def test_every_condition_of_a_toolkits_defect_has_to_hold(
    toolkit: str, rest: str, severity: str | None
) -> None:
    head, _, tail = rest.partition("[container]\n")
    findings = found("container-toolkit-mismatch", f'{head}\n[container]\ntoolkit = "{toolkit}"\n{tail}\n')
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("stack", "source", "severity"),
    [
        # NVIDIA_DRIVER_CAPABILITIES is unset: some runtimes leave libcuda out then, where devices are asked for.
        ('[container]\nvisible_devices = "all"', "import", "note"),
        ('[container]\nvisible_devices = "all"', "", None),
        ('[container]\nvisible_devices = "all"\n[driver]\nversion = "550.54.14"', "import", None),
        ("[container]", "import", None),
        # Capabilities: what was served after all was not left out.
        ('[container]\ndriver_capabilities = "utility"\n[driver]\nversion = "550.54.14"', "import", "error"),
        ('[container]\ndriver_capabilities = "utility"\n[driver]\ncuda = "12.4"', "import", "warning"),
        ('[container]\ndriver_capabilities = "utility"\n[driver]\nlibcuda = "/usr/lib/libcuda.so.550.54.14"', "import", None),
        ('[container]\ndriver_capabilities = "compute"\n[driver]\ncuda = "12.4"', "import", None),
        ('[container]\ndriver_capabilities = "ALL"', "import", None),
        # A container in which nobody found a driver.
        ('[container]\nruntime = "docker"\n[framework.torch]\ncuda = "12.4"', "", "note"),
        ('[container]\nruntime = "docker"\n[framework.torch]\ncuda = "12.4"', "root", None),
        ('[container]\nruntime = "docker"\n[framework.torch]\ncuda = "12.4"', "import", None),
        ('[container]\nruntime = "docker"\n[framework.torch]\ncuda = "12.4"\n[capture.unobserved]\ngpu = "no"',
         "import", "error"),
        ('[container]\nruntime = "docker"\nvisible_devices = "all"\n[capture.unobserved]\ngpu = "no"', "import", "error"),
        ('[container]\nruntime = "docker"\nvisible_devices = "all"', "", "warning"),
        ('[container]\nvisible_devices = "all"\n[environ]\nNVIDIA_VISIBLE_DEVICES = "none"', "", "warning"),
        ('[environ]\nNVIDIA_VISIBLE_DEVICES = "void"\n[[gpu]]\nname = "NVIDIA L4"', "", None),
        ('[environ]\nNVIDIA_VISIBLE_DEVICES = "0"', "", None),
    ],
)  # fmt: skip
def test_what_a_container_was_given(stack: str, source: str, severity: str | None) -> None:
    findings = found("container-without-gpu", stack + "\n", source)
    assert [finding.severity for finding in findings][:1] == ([severity] if severity else [])


def test_where_no_device_is_given_missing_capabilities_are_not_told_too() -> None:
    (finding,) = found("container-without-gpu", '[container]\nvisible_devices = "void"\n', source="import")
    assert finding.subject == "container.visible_devices"


def test_why_no_gpu_was_seen_is_evidence() -> None:
    stack = (
        '[container]\nvisible_devices = "none"\n[capture.unobserved]\ngpu = "no NVML"\ndriver = "no module"\n'
    )
    assert [(each.address, each.value) for each in only("container-without-gpu", stack).evidence] == [
        ("container.visible_devices", "none"), ("driver", "no module"), ("gpu", "no NVML"),
    ]  # fmt: skip


def test_a_cuda_that_no_driver_is_known_for_has_no_fix() -> None:
    assert (
        only(
            "image-requirement-unmet",
            '[driver]\nversion = "550.54.14"\n[container]\nrequire = "cuda>=99.9"\n',
        ).fixes
        == ()
    )


def test_cuda_version_asks_in_an_image_and_not_on_a_bare_machine() -> None:
    stack = '[driver]\nversion = "525.85.12"\n[environ]\nCUDA_VERSION = "{}"\n'
    assert found("image-requirement-unmet", stack.format("12.4.1"), source="image")
    assert not found("image-requirement-unmet", stack.format("12.4.1"), source="root")
    assert not found("image-requirement-unmet", stack.format("latest"), source="image")


def test_a_host_with_a_gpu_whose_container_sees_no_driver() -> None:
    stack = NO_DRIVER.replace("[capture.unobserved]", '[capture]\nsource = "import"\n[capture.unobserved]')
    assert only("container-without-gpu", stack + '[[gpu]]\nname = "NVIDIA A40"\n').severity == "error"


def test_a_driver_older_than_the_listed_branches_has_a_cuda_too() -> None:
    stack = '[driver]\nversion = "{}"\n[container]\nrequire = "cuda>=9.0"\n'
    assert "CUDA 8.0" in only("image-requirement-unmet", stack.format("375.26")).message
    assert not found("image-requirement-unmet", stack.format("384.81"))
