"""The driver and GPUs as /proc, /sys, the loader and NVML tell them, and what each of them leaves open."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.probe.driver import Nvml, ask_nvml, read_driver, read_gpus, read_nvidia
from envlock.probe.observation import Observation
from envlock.roots.live import LiveRoot
from tests.nvml_double.build import build_libcuda, build_nvml
from tests.probe.support import write

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="the doubles are compiled with gcc")

H100 = "NVIDIA H100 80GB HBM3,81559,9.0,0"
A100_MIG = "NVIDIA A100-SXM4-80GB,81920,8.0,1"
T4 = "Tesla T4,15360,7.5,-"

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22-I3-B17-02-5)"
    "  Tue Sep 23 09:55:41 UTC 2025\nGCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04.2) \n"
)
PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04) \n"
)


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    build_nvml(folder)
    build_libcuda(folder)
    return folder


def live(*folders: Path, **environ: str) -> LiveRoot:
    path = ":".join(str(folder) for folder in folders)
    return LiveRoot({"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": path, **environ})


def driver(seen: Observation) -> dict[str, object]:
    facts = seen.facts["driver"]
    assert isinstance(facts, dict)
    return facts


@needs_gcc
def test_nvml_tells_driver_and_gpus(double: Path) -> None:
    seen = read_nvidia(
        live(
            double,
            DOUBLE_GPUS=";".join([H100, H100, A100_MIG, T4]),
            DOUBLE_DRIVER="550.54.15",
            DOUBLE_CUDA="12040",
        )
    )
    assert driver(seen)["version"] == "550.54.15"
    assert driver(seen)["cuda"] == "12.4"
    assert driver(seen)["libcuda"] == str(double / "libcuda.so.570.86.15")
    assert seen.facts["gpu"] == [
        {
            "name": "NVIDIA H100 80GB HBM3",
            "compute_capability": "9.0",
            "memory_mib": 81559,
            "mig": False,
            "count": 2,
        },
        {
            "name": "NVIDIA A100-SXM4-80GB",
            "compute_capability": "8.0",
            "memory_mib": 81920,
            "mig": True,
            "count": 1,
        },
        {"name": "Tesla T4", "compute_capability": "7.5", "memory_mib": 15360, "mig": False, "count": 1},
    ]
    assert not [address for address in seen.unobserved if address.startswith(("gpu", "driver"))]


@needs_gcc
def test_it_agrees_with_pynvml(double: Path) -> None:
    pytest.importorskip("pynvml")
    root = live(
        double, DOUBLE_GPUS=";".join([H100, A100_MIG]), DOUBLE_DRIVER="535.183.06", DOUBLE_CUDA="12020"
    )
    script = (
        "import json, pynvml as n; n.nvmlInit()\n"
        "ds = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]\n"
        "print(json.dumps({'driver': n.nvmlSystemGetDriverVersion(), 'cuda': n.nvmlSystemGetCudaDriverVersion_v2(),"
        " 'count': len(ds), 'gpus': [{'name': n.nvmlDeviceGetName(d), 'memory': n.nvmlDeviceGetMemoryInfo(d).total,"
        " 'cc': list(n.nvmlDeviceGetCudaComputeCapability(d)), 'mig': n.nvmlDeviceGetMigMode(d)[0] == 1} for d in ds]}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], env=dict(root.environ), capture_output=True, check=True, timeout=60
    )
    assert ask_nvml(root) == Nvml(json.loads(told.stdout), "")


@needs_gcc
@pytest.mark.parametrize(
    ("function", "version", "counted"),
    [
        ("nvmlInit", None, None),
        ("nvmlDeviceGetCount", "570.86.15", None),
        ("nvmlDeviceGetName", "570.86.15", 2),
    ],
)
@pytest.mark.parametrize("how", ["HANG", "CRASH"])
def test_a_broken_nvml_costs_its_time_and_what_it_did_not_tell(
    double: Path, how: str, function: str, version: "str | None", counted: "int | None"
) -> None:
    # A fifth of the time is for the child to start and to answer, on a busy machine too.
    nvml = ask_nvml(live(double, DOUBLE_GPUS=f"{H100};{H100}", **{"DOUBLE_" + how: function}), timeout=5.0)
    assert nvml.answer.get("driver") == version
    assert nvml.answer.get("count") == counted
    assert nvml.reason == (
        "NVML did not answer within 4 s" if how == "HANG" else "NVML ended its process by signal 11"
    )


@needs_gcc
def test_the_reason_of_a_broken_nvml_is_kept(double: Path) -> None:
    seen = read_nvidia(live(double, DOUBLE_CRASH="nvmlInit"), timeout=2.0)
    # The files' names and libcuda still tell something.
    assert driver(seen)["version"] == "570.86.15"
    assert driver(seen)["cuda"] == "12.8"
    assert "signal 11" in seen.unobserved["gpu"]
    assert "gpu" not in seen.facts


@needs_gcc
def test_another_kernel_module_is_named(double: Path) -> None:
    seen = read_nvidia(live(double, DOUBLE_INIT="18"))
    assert seen.unobserved["gpu"].startswith(
        "NVML error 18: the kernel module and the NVML library are of different versions"
    )


@needs_gcc
def test_lies_become_unobserved(double: Path) -> None:
    seen = read_nvidia(live(double, DOUBLE_LIE="1", DOUBLE_GPUS=H100, DOUBLE_LIBCUDA="-5"))
    assert driver(seen)["version"] == "570.86.15"  # from the file's name
    assert "cuda" not in driver(seen)
    assert "driver.cuda" in seen.unobserved
    assert "gpu" not in seen.facts
    assert seen.unobserved["gpu"].startswith("NVML counts 4000000000 GPUs, which cannot be")


@needs_gcc
def test_an_old_driver_lacks_functions(tmp_path: Path) -> None:
    build_nvml(tmp_path, "440.33.01", "-DOLD")
    seen = read_nvidia(
        live(
            tmp_path,
            DOUBLE_DRIVER="440.33.01",
            DOUBLE_CUDA="10020",
            DOUBLE_GPUS="Tesla V100-SXM2-16GB,16160,7.0,-",
        )
    )
    assert driver(seen)["cuda"] == "10.2"
    assert seen.facts["gpu"] == [
        {"name": "Tesla V100-SXM2-16GB", "compute_capability": "7.0", "memory_mib": 16160, "count": 1}
    ]


@needs_gcc
def test_a_compatibility_libcuda_is_told_from_the_drivers_own(double: Path, tmp_path: Path) -> None:
    compat = tmp_path / "cuda-12.4" / "compat"
    build_libcuda(compat, "550.54.14", "-DCUDA=12040")
    own = tmp_path / "own"
    build_nvml(own, "470.57.02")
    build_libcuda(own, "470.57.02", "-DCUDA=11040")
    # NVML's own CUDA follows the library that would be loaded.
    seen = read_driver(live(compat, own, DOUBLE_DRIVER="470.57.02", DOUBLE_CUDA="12040"))
    assert driver(seen)["version"] == "470.57.02"
    assert driver(seen)["compat"] == "12.4"
    assert driver(seen)["libcuda"] == str(compat / "libcuda.so.550.54.14")
    assert driver(seen)["cuda"] == "11.4"


@needs_gcc
@pytest.mark.parametrize("name", ["libcuda.so", "libcuda.so.1"])
def test_a_stub_in_front_is_recorded_and_never_believed(tmp_path: Path, name: str) -> None:
    stubs = tmp_path / "lib64" / "stubs"
    library = build_libcuda(stubs, "0", "-DSTUB")
    (stubs / "libcuda.so.1").unlink()
    library.rename(stubs / name)
    nvml = Nvml({"driver": "570.86.15"}, "")
    seen = read_driver(live(stubs), nvml)
    assert driver(seen)["libcuda"] == str(stubs / name)
    assert "cuda" not in driver(seen)


@needs_gcc
@pytest.mark.parametrize("how", ["hang", "crash", "0"])
def test_a_broken_libcuda_is_a_reason(tmp_path: Path, how: str) -> None:
    build_libcuda(tmp_path)
    started = time.monotonic()
    seen = read_nvidia(live(tmp_path, DOUBLE_LIBCUDA=how), timeout=0.7)
    assert time.monotonic() - started < 20
    assert "cuda" not in driver(seen)
    assert seen.unobserved["driver.cuda"]


@needs_gcc
def test_a_gpu_counted_and_not_described_is_still_there(double: Path) -> None:
    root = live(
        double, DOUBLE_GPUS=f"{H100};{H100};{H100}", DOUBLE_CRASH_AT="2", DOUBLE_CRASH="nvmlDeviceGetName"
    )
    seen = read_nvidia(root)
    assert [(gpu.get("name"), gpu["count"]) for gpu in seen.facts["gpu"]] == [
        ("NVIDIA H100 80GB HBM3", 2),
        (None, 1),
    ]
    assert seen.unobserved["gpu.name"] == "NVML ended its process by signal 11"


@settings(deadline=None)  # a shared runner may stall
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["driver", "cuda", "count", "gpus", "name", "memory", "cc", "mig"]), inner
            )
        ),
        max_leaves=20,
    ).filter(lambda answer: isinstance(answer, dict))
)
def test_any_answer_leads_to_sound_facts(answer: "dict[str, object]") -> None:
    seen = read_gpus(LiveRoot({}), Nvml(answer, ""))
    for gpu in seen.facts.get("gpu", ()):
        assert gpu["count"] >= 1
        assert 0 < gpu.get("memory_mib", 1) < 1 << 30
        assert gpu.get("name", "x").isprintable()


def script(folder: Path, text: str) -> LiveRoot:
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + text)
    program.chmod(0o755)
    return LiveRoot({"PATH": f"{folder}:/usr/bin:/bin"})


def test_nvidia_smi_is_asked_where_no_library_is_found(tmp_path: Path) -> None:
    root = script(
        tmp_path, 'echo "NVIDIA A100-SXM4-40GB, 8.0, 40960, Disabled"; echo "Tesla T4, 7.5, 15360, [N/A]"'
    )
    seen = read_gpus(root, Nvml({}, "no libnvidia-ml.so.1 on this machine"))
    assert seen.facts["gpu"] == [
        {
            "name": "NVIDIA A100-SXM4-40GB",
            "compute_capability": "8.0",
            "memory_mib": 40960,
            "mig": False,
            "count": 1,
        },
        {"name": "Tesla T4", "compute_capability": "7.5", "memory_mib": 15360, "mig": False, "count": 1},
    ]


@pytest.mark.parametrize("text", ["exec sleep 60", "exit 9", "echo NVIDIA-SMI has failed"])
def test_a_broken_nvidia_smi_costs_its_time(tmp_path: Path, text: str) -> None:
    started = time.monotonic()
    read_gpus(script(tmp_path, text), Nvml({}, "no libnvidia-ml.so.1 on this machine"), timeout=0.5)
    assert time.monotonic() - started < 20


class Jetson(LiveRoot):
    def exists(self, path: str) -> bool:
        return path == "/etc/nv_tegra_release" or super().exists(path)


@needs_gcc
def test_a_jetsons_gpu_is_told_by_libcuda(tmp_path: Path) -> None:
    build_libcuda(tmp_path, "1.1")
    root = Jetson({"PATH": "/bin", "LD_LIBRARY_PATH": str(tmp_path), "DOUBLE_GPUS": "Orin,30623,8.7"})
    seen = read_gpus(root, Nvml({}, "no libnvidia-ml.so.1 on this machine"))
    assert seen.facts["gpu"] == [
        {"name": "Orin", "compute_capability": "8.7", "memory_mib": 30623, "count": 1}
    ]


def link(folder: Path, name: str, target: str) -> None:
    path = folder / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("text", "version", "flavor"),
    [
        (OPEN, "580.95.05", "open"),
        (PROPRIETARY, "550.90.07", "proprietary"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.135  Fri Jan 10 20:00:00 UTC 2025\n", "550.135", "proprietary"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.77  Release Build  (nixbld@)\n", "565.77", "open"),
    ],
)  # fmt: skip
def test_the_kernel_module_tells_version_and_flavor(
    tmp_path: Path, text: str, version: str, flavor: str
) -> None:
    seen = read_driver(write(tmp_path, {"/proc/driver/nvidia/version": text}))
    assert driver(seen)["kernel_module"] == version
    assert driver(seen)["flavor"] == flavor
    assert driver(seen)["version"] == ""  # no library beside it
    assert driver(seen)["libcuda"] == ""


def test_a_machine_as_a_folder(tmp_path: Path) -> None:
    library = "/usr/lib/x86_64-linux-gnu/"
    root = write(
        tmp_path,
        {
            "/proc/driver/nvidia/version": PROPRIETARY,
            "/proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 97\n",
            "/proc/driver/nvidia/gpus/0000:02:00.0/information": "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 98\n",
            library + "libcuda.so.560.35.03": "",
            "/dev/nvidiactl": "",
            "/dev/nvidia0": "",
        },
    )
    link(tmp_path, library + "libcuda.so.1", "libcuda.so.560.35.03")
    seen = read_nvidia(root)
    assert driver(seen) == {
        "version": "560.35.03",
        "kernel_module": "550.90.07",
        "flavor": "proprietary",
        "libcuda": library + "libcuda.so.560.35.03",
        "missing": ["/dev/nvidia-uvm", library + "libcuda.so"],
    }
    assert seen.facts["gpu"] == [{"name": "NVIDIA GeForce RTX 4090", "count": 2}]
    assert set(seen.unobserved) == {"driver.cuda", "gpu.compute_capability", "gpu.memory_mib", "gpu.mig"}


def test_nodes_made_on_demand_are_not_missing(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"/proc/driver/nvidia/version": OPEN, "/usr/bin/nvidia-modprobe": "", "/dev/null": ""}
    )
    assert "missing" not in driver(read_driver(root))
    (tmp_path / "sys/module/nvidia_uvm").mkdir(parents=True)
    assert driver(read_driver(root))["missing"] == ["/dev/nvidia-uvm"]


def test_a_gpu_on_the_bus_without_a_driver(tmp_path: Path) -> None:
    bus = "/sys/bus/pci/devices/"
    root = write(
        tmp_path,
        {
            bus + f"{slot}/{name}": text + "\n"
            for slot, *texts in (
                ("0000:01:00.0", "0x10de", "0x030200", "0x2330"),  # the GPU
                ("0000:01:00.1", "0x10de", "0x040300", "0x10f0"),  # its sound
                ("0000:02:00.0", "0x1002", "0x030000", "0x744c"),  # another maker's GPU
            )
            for name, text in zip(("vendor", "class", "device"), texts, strict=True)
        },
    )
    (tmp_path / "sys/bus/pci/drivers/nouveau").mkdir(parents=True)
    link(tmp_path, bus + "0000:01:00.0/driver", "../../drivers/nouveau")
    seen = read_nvidia(root)
    assert driver(seen) == {"version": "", "kernel_module": "", "flavor": "nouveau"}
    assert seen.facts["gpu"] == [{"name": "NVIDIA device 10de:2330", "count": 1}]
    assert "gpu.compute_capability" in seen.unobserved


def test_nothing_of_nvidia_is_unobserved_not_absent(tmp_path: Path) -> None:
    seen = read_nvidia(write(tmp_path, {"/proc/meminfo": "MemTotal: 1 kB\n"}))
    assert seen.facts == {}
    assert (
        seen.unobserved["driver"] == "no /proc/driver/nvidia/version and no libnvidia-ml.so.1 on this machine"
    )
    assert "no PCI bus can be seen" in seen.unobserved["gpu"]


def test_wsl2_takes_windows_driver_files(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "/proc/sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2\n",
            "/usr/lib/wsl/lib/libcuda.so.1": "",
        },
    )
    seen = read_nvidia(root)
    assert driver(seen)["libcuda"] == "/usr/lib/wsl/lib/libcuda.so.1"
    assert "kernel_module" not in driver(seen)
    assert "driver.version" in seen.unobserved


def test_a_jetsons_driver_is_its_release(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "/etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
            "/proc/sys/kernel/osrelease": "5.10.120-tegra\n",
            "/lib/ld-linux-aarch64.so.1": "",
            "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1": "",
        },
    )
    (tmp_path / "lib/ld-linux-aarch64.so.1").write_bytes(
        b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00" + bytes(40)
    )
    seen = read_driver(root)
    assert driver(seen)["libcuda"] == "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1"
    assert seen.unobserved["driver.version"] == "the driver is part of Jetson Linux 35.4.1"


def test_an_image_holds_no_driver(tmp_path: Path) -> None:
    root = write(tmp_path, {"/usr/lib/x86_64-linux-gnu/libcuda.so.1": ""})
    seen = read_nvidia(root)
    assert seen.facts == {}
    assert set(seen.unobserved) == {"driver", "gpu"}
