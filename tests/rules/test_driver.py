"""Rules about the driver, each with a stack that breaks it and a near miss."""

from __future__ import annotations

import pytest

from tests.rules.support import check, found, only

TORCH = '[framework.torch]\nversion = "{torch}"\ncuda = "{cuda}"\n'


def stack(driver: str, torch: str = "2.4.0+cu124", cuda: str = "12.4", more: str = "") -> str:
    return f"[driver]\n{driver}\n{more}" + TORCH.format(torch=torch, cuda=cuda)


@pytest.mark.parametrize(
    ("driver", "cuda", "floor"),
    [
        ('version = "470.57.02"', "12.4", "525.60.13"),
        ('version = "525.60.11"', "12.8", "525.60.13"),
        ('version = "570.133.20"', "13.0", "580.65.06"),
        ('version = "450.51.06"', "11.8", "450.80.02"),
        ('version = "418.39"', "10.2", "440.33"),
        ('cuda = "11.4"', "12.4", "525.60.13"),
        ('cuda = "10.1"', "10.2", "440.33"),
    ],
)
def test_a_driver_below_the_floor(driver: str, cuda: str, floor: str) -> None:
    finding = only("driver-too-old-for-cuda", stack(driver, cuda=cuda))
    assert finding.severity == "error"
    assert floor in finding.message and cuda in finding.message
    assert {"framework.torch.cuda"} <= {each.address for each in finding.evidence}
    assert any(fix.address == "driver.version" and fix.to == f">={floor}" for fix in finding.fixes)


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [
        ('version = "525.60.13"', "12.8"),  # minor-version compatibility
        ('version = "450.80.02"', "11.8"),
        ('version = "450.51.05"', "11.0"),  # its own driver, older than what later minors of the major need
        ('version = "580.65.06"', "13.4"),
        ('version = "535"', "12.4"),  # a bare branch is not below its own first release
        ('cuda = "12.0"', "12.9"),
        ('cuda = "13.0"', "12.4"),  # newer drivers run older CUDA
        ('version = "470.57.02"\ncompat = "12.4"', "12.4"),  # forward compatibility
    ],
)
def test_a_driver_that_will_do(driver: str, cuda: str) -> None:
    assert not found("driver-too-old-for-cuda", stack(driver, cuda=cuda))


WSL2 = '[host]\nplatform = "wsl2"\n'


@pytest.mark.parametrize(
    ("driver", "cuda", "floor"),
    [("526.98", "12.1", "527.41"), ("576.80", "13.0", "580"), ("452.06", "11.3", "452.39")],
)
def test_inside_wsl2_the_floor_is_that_of_windows(driver: str, cuda: str, floor: str) -> None:
    text = WSL2 + stack(f'version = "{driver}"', cuda=cuda)
    finding = only("driver-too-old-for-cuda", text)
    assert f"it needs {floor} or newer" in finding.message
    fix = next(fix for fix in finding.fixes if fix.address == "driver.version")
    assert fix.to == f">={floor}" and fix.message.endswith("on Windows, and none inside WSL2")
    for will_do in ("527.41", "580.88") if cuda != "13.0" else ("580.88", "581.57"):
        assert not found("driver-too-old-for-cuda", text.replace(driver, will_do))
    kernel = text.replace('platform = "wsl2"', 'kernel = "5.15.153.1-microsoft-standard-WSL2"')
    assert found("driver-too-old-for-cuda", kernel)


def test_inside_wsl2_a_linux_driver_tells_nothing_of_the_driver_in_use() -> None:
    text = '[driver]\nlibcuda = "/usr/lib/x86_64-linux-gnu/libcuda.so.470.57.02"\n' + TORCH.format(
        torch="2.4.0+cu124", cuda="12.4"
    )
    assert found("driver-too-old-for-cuda", text)
    assert not found("driver-too-old-for-cuda", WSL2 + text)
    assert found("wsl-driver-conflict", WSL2 + text)


def test_a_version_that_spells_out_its_cuda_is_enough() -> None:
    text = '[driver]\nversion = "470.57.02"\n[package.pip]\ntorch = { version = "2.4.0+cu121" }\n'
    assert "12.1" in only("driver-too-old-for-cuda", text).message


def test_what_pypi_has_is_likely_in_a_paste_and_not_certain() -> None:
    text = '[driver]\nversion = "470.57.02"\n[package.pip]\ntorch = { version = "2.3.0" }\n'
    assert only("driver-too-old-for-cuda", text, source="import").severity == "warning"
    assert not found("driver-too-old-for-cuda", text)


def test_a_cuda_that_the_matrix_does_not_know_is_unknown() -> None:
    result = check(stack('version = "900.10"', cuda="19.0"))
    assert not [each for each in result.findings if each.rule == "driver-too-old-for-cuda"]
    assert any(each.rule == "driver-too-old-for-cuda" and "19.0" in each.needs for each in result.unknown)
    assert result.verdict == "unknown"


def test_a_build_that_this_machine_runs_is_offered_with_its_command() -> None:
    machine = (
        '[python]\nversion = "3.11.9"\n[os]\nlibc = "glibc 2.35"\n[host]\narch = "x86_64"\n'
        + GPU.format(name="NVIDIA A100")
    )
    finding = only(
        "driver-too-old-for-cuda", stack('version = "470.57.02"\ncuda = "11.4"', "2.6.0+cu124", more=machine)
    )
    assert any("torch==2.6.0" in fix.message and "whl/cu118" in fix.message for fix in finding.fixes)


def test_where_too_little_is_known_the_fix_is_general() -> None:
    finding = only("driver-too-old-for-cuda", stack('version = "470.57.02"\ncuda = "11.4"'))
    assert [fix.to for fix in finding.fixes if fix.address == "framework.torch.cuda"] == ["<=11.4"]


GPU = '[[gpu]]\nname = "{name}"\n'


@pytest.mark.parametrize(
    ("rule", "driver", "name"),
    [
        ("driver-too-old-for-gpu", "550.120", "NVIDIA GeForce RTX 5090"),
        ("driver-too-old-for-gpu", "450.80.02", "NVIDIA H100 80GB HBM3"),
        ("driver-too-old-for-gpu", "361.42", "NVIDIA GeForce GTX 1080"),
        ("driver-dropped-gpu", "525.85.12", "Tesla K80"),
        ("driver-dropped-gpu", "580.95.05", "GeForce GTX 780"),
    ],
)
def test_a_branch_that_does_not_know_the_gpu(rule: str, driver: str, name: str) -> None:
    finding = only(rule, f'[driver]\nversion = "{driver}"\n' + GPU.format(name=name))
    assert finding.subject == "driver.version" and finding.severity == "error"
    assert driver in finding.message


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("570.133.20", "NVIDIA GeForce RTX 5090"),
        ("470.256.02", "Tesla K80"),
        ("367.57", "NVIDIA GeForce GTX 1080"),
        ("580.95.05", "NVIDIA H100 PCIe"),
    ],
)
def test_a_branch_that_knows_the_gpu(driver: str, name: str) -> None:
    text = f'[driver]\nversion = "{driver}"\n' + GPU.format(name=name)
    assert not found("driver-too-old-for-gpu", text) and not found("driver-dropped-gpu", text)


def test_a_windows_driver_is_of_the_branch_that_it_counts_on_from() -> None:
    pascal = GPU.format(name="NVIDIA GeForce GTX 1080")
    driver = '[driver]\nversion = "{}"\n'
    assert not found("driver-dropped-gpu", WSL2 + driver.format("581.57") + pascal)
    assert found("driver-dropped-gpu", WSL2 + driver.format("591.44") + pascal)
    assert found("driver-dropped-gpu", driver.format("581.57") + pascal)  # no branch of Linux has that number
    blackwell = GPU.format(name="NVIDIA GeForce RTX 5090")
    assert not found("driver-too-old-for-gpu", WSL2 + driver.format("572.16") + blackwell)
    assert found("driver-too-old-for-gpu", WSL2 + driver.format("566.36") + blackwell)


def test_a_defect_of_a_linux_driver_is_none_of_windows() -> None:
    driver = '[driver]\nversion = "535.98"\n'
    assert found("driver-known-bad", driver)
    assert not found("driver-known-bad", WSL2 + driver)


def test_module_and_libraries_of_two_versions() -> None:
    finding = only(
        "driver-kernel-user-mismatch", '[driver]\nversion = "535.183.01"\nkernel_module = "535.171.04"\n'
    )
    assert finding.subject == "driver.kernel_module" and finding.fixes
    for same in ("535.183.01", "535.183", "535"):
        text = f'[driver]\nversion = "535.183.01"\nkernel_module = "{same}"\n'
        assert not found("driver-kernel-user-mismatch", text)


@pytest.mark.parametrize(
    "place",
    ['fabric_manager = "550.54.15"\n', '[package.system]\nnvidia-fabricmanager-550 = "550.54.15-1"\n'],
)
def test_fabric_manager_of_another_version(place: str) -> None:
    place = '[driver]\nversion = "550.90.07"\n' + place
    assert "550.54.15" in only("fabric-manager-mismatch", place).message
    assert not found("fabric-manager-mismatch", place.replace("550.54.15", "550.90.07"))


def test_forward_compatibility_is_for_data_centre_gpus() -> None:
    text = '[driver]\nversion = "535.54.03"\ncompat = "12.4"\n'
    geforce = only("compat-libcuda-unsupported", text + GPU.format(name="NVIDIA GeForce RTX 3090"))
    assert "data-centre" in geforce.message and geforce.fixes
    assert not found("compat-libcuda-unsupported", text + GPU.format(name="NVIDIA A100-SXM4-80GB"))


def test_a_compat_older_than_the_driver() -> None:
    text = '[driver]\nversion = "570.133.20"\ncuda = "12.8"\ncompat = "12.4"\n' + GPU.format(
        name="NVIDIA A100-SXM4-80GB"
    )
    assert "newer" in only("compat-libcuda-unsupported", text).message


def test_the_stub() -> None:
    text = '[driver]\nlibcuda = "/usr/local/cuda/lib64/stubs/libcuda.so"\n'
    assert only("libcuda-stub-loaded", text).subject == "driver.libcuda"
    assert not found("libcuda-stub-loaded", text.replace("/stubs", ""))


@pytest.mark.parametrize(
    ("path", "severity"), [("/dev/nvidia-uvm", "error"), ("/usr/lib64/libcuda.so", "warning")]
)
def test_a_missing_node_or_link(path: str, severity: str) -> None:
    text = f'[driver]\nversion = "570.133.20"\nmissing = ["{path}"]\n'
    assert only("device-node-missing", text).severity == severity
    assert not found("device-node-missing", '[driver]\nversion = "570.133.20"\n')


def test_a_gpu_without_a_driver() -> None:
    text = '[capture]\nsource = "live"\n[capture.unobserved]\ndriver = "not loaded"\n' + GPU.format(
        name="Tesla T4"
    )
    assert "Tesla T4" in only("driver-missing", text).message
    assert not found("driver-missing", text + '[driver]\nversion = "570.133.20"\n')


@pytest.mark.parametrize(
    ("name", "flavor", "wrong"),
    [
        ("NVIDIA B200", "proprietary", True),
        ("NVIDIA B200", "open", False),
        ("Tesla V100-SXM2-32GB", "open", True),
        ("NVIDIA A100-SXM4-80GB", "open", False),
    ],
)
def test_the_flavour_of_the_kernel_module(name: str, flavor: str, wrong: bool) -> None:
    text = f'[driver]\nversion = "580.95.05"\nflavor = "{flavor}"\n' + GPU.format(name=name)
    assert bool(found("kernel-module-blocked", text)) is wrong


def test_a_known_defect_only_where_its_conditions_hold() -> None:
    text = '[driver]\nversion = "580.95.05"\nflavor = "open"\n' + GPU.format(name="NVIDIA B200")
    told = [each for each in found("driver-known-bad", text) if "66 days" in each.message]
    assert [(each.severity, each.quiet) for each in told] == [("note", True)]
    assert not [
        each for each in found("driver-known-bad", text.replace("B200", "H100")) if "66 days" in each.message
    ]


@pytest.mark.parametrize(
    ("fact", "address"),
    [
        ('kernel_module = "595.71.05"', "driver.kernel_module"),
        ('libcuda = "/usr/lib/x86_64-linux-gnu/libcuda.so.595.71.05"', "driver.libcuda"),
    ],
)
def test_the_drivers_version_may_be_known_from_another_fact_alone(fact: str, address: str) -> None:
    text = f'[[gpu]]\nname = "NVIDIA GeForce GTX 1050"\n[driver]\n{fact}\n'
    finding = only("driver-dropped-gpu", text)
    assert finding.subject == address and "595.71.05" in finding.message
    assert not found("driver-dropped-gpu", text.replace("595.71.05", "580.95.05"))
    assert not found(
        "driver-dropped-gpu", text.replace("libcuda.so.595.71.05", "libcuda.so.1.1").replace("595.", "580.")
    )


def test_a_libcuda_of_another_version_than_the_module() -> None:
    text = '[driver]\nkernel_module = "550.90.07"\nlibcuda = "/usr/lib/libcuda.so.{}"\n'
    assert found("driver-kernel-user-mismatch", text.format("550.107.02"))
    assert not found("driver-kernel-user-mismatch", text.format("550.90.07"))


def test_secure_boot_is_certain_only_with_a_driver_to_load() -> None:
    boot = "[host]\nsecure_boot = true\n"
    looked = '[capture]\nsource = "{}"\n[capture.unobserved]\n"driver.kernel_module" = "not loaded"\n'
    live = looked.format("live") + boot
    assert only("kernel-module-blocked", live + '[driver]\nversion = "550.54.14"\n').severity == "error"
    assert not found("kernel-module-blocked", live)  # no GPU, no driver: any laptop
    assert only("kernel-module-blocked", looked.format("import") + boot).severity == "warning"
    loaded = '[driver]\nversion = "550.54.14"\nkernel_module = "550.54.14"\n'
    assert not found("kernel-module-blocked", boot + loaded)


@pytest.mark.parametrize(
    ("name", "count", "switched"),
    [
        ("NVIDIA A100-SXM4-80GB", 8, True),
        ("NVIDIA H100 80GB HBM3", 8, True),
        ("NVIDIA H200", 8, True),
        ("NVIDIA A100-SXM4-40GB", 4, False),  # a board of four has no switch
        ("NVIDIA H200 NVL", 8, False),
        ("NVIDIA H100 PCIe", 8, False),
    ],
)
def test_a_board_with_nvswitches_needs_a_fabric_manager(name: str, count: int, switched: bool) -> None:
    text = f'[driver]\nfabric_manager = ""\n[[gpu]]\nname = "{name}"\ncount = {count}\n'
    assert bool(found("fabric-manager-mismatch", text)) is switched
    assert not found("fabric-manager-mismatch", text.replace('fabric_manager = ""', 'version = "570.86.15"'))


def test_a_cuda_beyond_the_drivers_branch_is_a_compat_libcudas() -> None:
    text = '[driver]\nversion = "580.126.09"\ncuda = "{}"\n[[gpu]]\nname = "{}"\n'
    assert found("compat-libcuda-unsupported", text.format("13.1", "NVIDIA GeForce RTX 5090"))
    assert not found("compat-libcuda-unsupported", text.format("13.0", "NVIDIA GeForce RTX 5090"))
    assert not found("compat-libcuda-unsupported", text.format("13.1", "NVIDIA H100 PCIe"))


def test_a_stubs_folder_on_the_search_path() -> None:
    path = '[environ]\nLD_LIBRARY_PATH = "/opt/cuda/lib64/stubs:/opt/cuda/lib64"\n'
    finding = only("libcuda-stub-loaded", path)
    assert (finding.severity, finding.subject) == ("warning", "environ.LD_LIBRARY_PATH")
    assert finding.fixes[0].trial["environ.LD_LIBRARY_PATH"] == "/opt/cuda/lib64"
    real = '[driver]\nlibcuda = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14"\n'
    assert not found("libcuda-stub-loaded", real + path)
    assert not found("libcuda-stub-loaded", path.replace("/stubs", ""))


def test_the_cuda_of_an_images_tag_is_what_it_needs() -> None:
    text = '[driver]\nversion = "470.57.02"\n[container]\nimage = "{}"\n'
    for image in ("nvidia/cuda:12.4.1-devel-ubuntu22.04", "pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime"):
        finding = only("driver-too-old-for-cuda", text.format(image))
        assert finding.severity == "warning" and "12.4" in finding.message
    assert not found("driver-too-old-for-cuda", text.format("nvidia/cuda:11.8.0-base-ubuntu22.04"))
    assert not found("driver-too-old-for-cuda", text.format("ubuntu:24.04"))


def test_debians_package_of_the_libraries_is_held_against_the_module() -> None:
    text = '[driver]\nkernel_module = "{}"\n[package.system]\n{} = "{}"\n'
    finding = only("driver-kernel-user-mismatch", text.format("520.56.06", "nvidia-smi", "525.85.12-1"))
    assert finding.evidence[1].address == "package.system.nvidia-smi"
    assert found(
        "driver-kernel-user-mismatch", text.format("570.86.15", "nvidia-utils-570", "570.133.07-0ubuntu1")
    )
    assert not found("driver-kernel-user-mismatch", text.format("525.85.12", "nvidia-smi", "525.85.12-1"))
    assert not found("driver-kernel-user-mismatch", text.format("525.85.12", "nvidia-settings", "535.1.1-1"))


def test_module_and_libraries_of_two_branches() -> None:
    text = '[driver]\nversion = "{}"\nkernel_module = "{}"\n'
    assert found("driver-kernel-user-mismatch", text.format("375", "367"))
    assert not found("driver-kernel-user-mismatch", text.format("375", "375.39"))


@pytest.mark.parametrize(
    ("driver", "known"),
    [
        ("525.60.13", False),
        ("525.60.12", True),
        ("525.60", False),
        ("525", False),
        ("524", True),
        ("525.59", True),
    ],
)
def test_a_driver_of_which_a_report_names_the_branch_is_not_below_its_floor(driver: str, known: bool) -> None:
    text = f'[driver]\nversion = "{driver}"\n[framework.torch]\nversion = "2.4.0"\ncuda = "12.4"\n'
    assert bool(found("driver-too-old-for-cuda", text, "import")) is known


@pytest.mark.parametrize(("count", "known"), [(8, True), (7, False)])
def test_a_board_of_eight_needs_its_fabric_manager(count: int, known: bool) -> None:
    text = '[driver]\nversion = "570.133.20"\nfabric_manager = ""\n[[gpu]]\nname = "NVIDIA H100 80GB HBM3"\n'
    assert bool(found("fabric-manager-mismatch", f"{text}count = {count}\n")) is known


def test_a_defect_of_a_driver_is_known_by_the_cuda_of_nvidia_smi_alone() -> None:
    stack = '[driver]\ncuda = "12.4"\n[[gpu]]\ncount = 2\n[package.pip]\nxgboost = {}\n'
    finding = only("driver-known-bad", stack, "import")
    assert (finding.subject, finding.quiet) == ("driver.cuda", True)
    assert not found("driver-known-bad", stack.replace("12.4", "12.6"), "import")
    assert not found("driver-known-bad", stack.replace("xgboost", "lightgbm"), "import")
    assert not found("driver-known-bad", stack.replace("count = 2", "count = 1"), "import")


@pytest.mark.parametrize(
    ("package", "told"),
    [("libnvidia-common-460", True), ("nvidia-driver-460", True), ("libnvidia-compute-460:amd64", True),
     ("nvidia-driver-cuda-libs", True), ("libnvidia-nscq-460", False), ("nvidia-dkms-460", False),
     ("libnvidia-container1", False)],
)  # fmt: skip
def test_packages_of_the_drivers_libraries_tell_their_version(package: str, told: bool) -> None:
    stack = (
        f'[driver]\nkernel_module = "460.56"\n[package.system]\n"{package}" = "460.73.01-0ubuntu0.20.04.1"\n'
    )
    assert bool(found("driver-kernel-user-mismatch", stack)) is told


@pytest.mark.parametrize(
    ("image", "driver", "gpu", "told"),
    [("nvcr.io/nvidia/pytorch:24.05-py3", "470.57.02", "RTX 3090", True),
     ("nvcr.io/nvidia/tritonserver:23.09-py3", "510.47.03", "RTX 3090", True),
     ("nvcr.io/nvidia/pytorch:24.05-py3", "535.104.05", "RTX 3090", False),
     ("nvcr.io/nvidia/pytorch:24.05-py3", "470.57.02", "NVIDIA A100-SXM4-80GB", False),
     ("nvcr.io/nvidia/pytorch:17.01", "384.81", "RTX 2080", False)],
)  # fmt: skip
def test_an_image_of_nvidia_holds_at_least_the_cuda_of_its_month(
    image: str, driver: str, gpu: str, told: bool
) -> None:
    stack = f'[driver]\nversion = "{driver}"\n[[gpu]]\nname = "{gpu}"\n[container]\nimage = "{image}"\n'
    said = found("driver-too-old-for-cuda", stack, "import")
    assert [each.severity for each in said] == (["warning"] if told else [])
