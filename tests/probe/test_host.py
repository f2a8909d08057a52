"""Kernel, processor, memory and limits of small machines, and of this one beside independent sources."""

import platform
import shutil
import sys
from pathlib import Path

import pytest

from envlock.probe.host import nvidia_devices, read_arch, read_host, read_platform
from envlock.probe.observation import Observation
from envlock.probe.root import UnobservableError
from envlock.roots.folder import FolderRoot
from envlock.roots.live import LiveRoot
from tests.probe.support import write

# Flags as Linux prints them for an AMD EPYC 7763, an Intel Core i7-3770 and QEMU's qemu64 model.
EPYC = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx"
    " lm constant_tsc pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm abm"
    " sse4a bmi1 avx2 bmi2 erms rdseed adx clflushopt sha_ni vaes"
)
IVY_BRIDGE = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat mmx fxsr sse sse2 ss ht syscall nx lm pni"
    " pclmulqdq ssse3 cx16 sse4_1 sse4_2 popcnt aes xsave avx f16c rdrand lahf_lm"
)
QEMU64 = "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr sse sse2 ht syscall nx lm pni cx16"


def host(seen: Observation) -> "dict[str, object]":
    facts = seen.facts["host"]
    assert isinstance(facts, dict)
    return facts


@pytest.mark.parametrize(
    ("flags", "level"),
    [(EPYC, "x86-64-v3"), (EPYC + " avx512f avx512bw avx512cd avx512dq avx512vl", "x86-64-v4"),
     (EPYC + " avx512f", "x86-64-v3"), (IVY_BRIDGE, "x86-64-v2"), (QEMU64, "x86-64-v1")],
)  # fmt: skip
def test_the_cpu_level_follows_from_the_flags(tmp_path: Path, flags: str, level: str) -> None:
    cpu = f"processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\nflags\t\t: {flags}\nbugs\t\t: none\n\nprocessor\t: 1\n"
    found = host(read_host(write(tmp_path, {"/proc/cpuinfo": cpu})))
    assert found["cpu"] == "AMD EPYC 7763 64-Core Processor"
    assert found["cpu_level"] == level


def test_an_arm_machine_has_no_psabi_level(tmp_path: Path) -> None:
    cpu = (
        "processor\t: 0\nFeatures\t: fp asimd evtstrm aes sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\n"
    )
    assert "cpu_level" not in host(read_host(write(tmp_path, {"/proc/cpuinfo": cpu})))


@pytest.mark.parametrize(
    ("option", "size"),
    [
        ("size=65536k", 0.062),
        ("size=64m", 0.062),
        ("size=67108864k", 64),
        ("size=8g", 8),
        ("size=1572864k", 1.5),
    ],
)
def test_shared_memory_is_what_the_mount_says(tmp_path: Path, option: str, size: float) -> None:
    mounts = f"tmpfs /tmp tmpfs rw,size=1k 0 0\nshm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,{option},inode64 0 0\n"
    assert host(read_host(write(tmp_path, {"/proc/mounts": mounts})))["shm_gib"] == size


def test_shared_memory_without_an_option_is_unobserved_in_a_folder(tmp_path: Path) -> None:
    seen = read_host(write(tmp_path, {"/proc/mounts": "tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n"}))
    assert "shm_gib" not in host(seen)
    assert "host.shm_gib" in seen.unobserved


@pytest.mark.parametrize(
    ("files", "translates"),
    [
        ({"/sys/class/net/lo/mtu": "65536"}, False),
        ({"/sys/class/iommu/ivhd0/x": "", "/sys/kernel/iommu_groups/0/type": "DMA-FQ\n"}, True),
        ({"/sys/class/iommu/dmar0/x": "", "/sys/kernel/iommu_groups/0/type": "identity\n"}, False),
        ({"/sys/class/iommu/dmar0/x": "", "/proc/cmdline": "quiet intel_iommu=on iommu=pt"}, False),
        ({"/sys/class/iommu/dmar0/x": "", "/proc/cmdline": "quiet intel_iommu=on"}, True),
    ],
)
def test_an_iommu_counts_when_it_translates(
    tmp_path: Path, files: "dict[str, str]", translates: bool
) -> None:
    assert host(read_host(write(tmp_path, dict(files))))["iommu"] is translates


def _config(control: int) -> bytes:
    """A bridge's configuration space: AER at 0x100, then ACS at 0x140 with this control register."""
    space = bytearray(4096)
    space[0x100:0x104] = (0x140 << 20 | 1 << 16 | 0x0001).to_bytes(4, "little")
    space[0x140:0x144] = (0 << 20 | 1 << 16 | 0x000D).to_bytes(4, "little")
    space[0x146:0x148] = control.to_bytes(2, "little")
    return bytes(space)


@pytest.mark.parametrize(
    ("config", "acs"), [(_config(0b11101), True), (_config(0b00001), False), (_config(0)[:64], None)]
)
def test_acs_is_what_the_bridges_are_set_to(tmp_path: Path, config: bytes, acs: "bool | None") -> None:
    bus = "/sys/bus/pci/devices/"
    bridge = {
        bus + "0000:00:01.0/class": "0x060400\n",
        bus + "0000:00:01.0/vendor": "0x8086\n",
        bus + "0000:00:01.0/config": config,
    }
    alone = write(tmp_path / "alone", {**bridge})
    assert "pcie_acs" not in host(read_host(alone))
    root = write(
        tmp_path / "gpu",
        {**bridge, bus + "0000:01:00.0/class": "0x030200\n", bus + "0000:01:00.0/vendor": "0x10de\n"},
    )
    seen = read_host(root)
    assert host(seen).get("pcie_acs") is acs
    assert ("host.pcie_acs" in seen.unobserved) is (acs is None)
    assert nvidia_devices(root) == [bus + "0000:01:00.0"]


VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.mark.parametrize(
    ("files", "value", "reason"),
    [
        ({VARIABLE: b"\x06\0\0\0\x01"}, True, None),
        ({VARIABLE: b"\x06\0\0\0\x00"}, False, None),
        ({"/sys/firmware/acpi/x": b""}, False, None),
        ({"/sys/firmware/efi/systab": b""}, None, "cannot be read"),
        ({"/sys/class/net/lo/mtu": b""}, None, "empty or hidden"),
    ],
)
def test_secure_boot(
    tmp_path: Path, files: "dict[str, bytes]", value: "bool | None", reason: "str | None"
) -> None:
    seen = read_host(write(tmp_path, dict(files)))
    assert host(seen).get("secure_boot") is value
    assert (reason or "") in seen.unobserved.get("host.secure_boot", "")


@pytest.mark.parametrize(
    ("limit", "kib"), [("unlimited            unlimited", -1), ("8388608              8388608  ", 8192)]
)
def test_locked_memory(tmp_path: Path, limit: str, kib: int) -> None:
    limits = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        f"Max locked memory         {limit}            bytes     \n"
    )
    assert host(read_host(write(tmp_path, {"/proc/self/limits": limits})))["memlock_kib"] == kib


def test_interfaces_named_at_random_are_left_out(tmp_path: Path) -> None:
    names = [
        "lo",
        "ib0",
        "eth0",
        "veth1a2b3c4",
        "br-0123456789ab",
        "cali0123456789a",
        "docker0",
        "bond0",
        "enp1s0f0np0",
    ]
    root = write(tmp_path, {f"/sys/class/net/{name}/mtu": "1500" for name in names})
    assert host(read_host(root))["interfaces"] == ["bond0", "docker0", "enp1s0f0np0", "eth0", "ib0"]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (
            {"/usr/bin/ofed_info": '#!/bin/bash\necho "MLNX_OFED_LINUX-24.10-1.1.4.0 (OFED-24.10-1.1.4):"\n'},
            "MLNX_OFED 24.10",
        ),
        ({"/opt/hpcx/VERSION": "HPC-X v2.20\n"}, "HPC-X 2.20"),
        ({"/usr/lib64/libibverbs.so.1.14.50.0": ""}, "rdma-core 50.0"),
    ],
)
def test_the_rdma_release(tmp_path: Path, files: "dict[str, str]", name: str) -> None:
    root = write(tmp_path, {"/proc/meminfo": "", **files})
    if "rdma-core" in name:
        (tmp_path / "usr/lib64/libibverbs.so.1").symlink_to("libibverbs.so.1.14.50.0")
    assert host(read_host(root))["rdma"] == name


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("5.15.167.4-microsoft-standard-WSL2", "wsl2"),
        ("5.10.120-tegra", "tegra"),
        ("6.8.0-45-generic", "linux"),
    ],
)
def test_the_platform_from_the_kernels_release(tmp_path: Path, release: str, name: str) -> None:
    assert read_platform(write(tmp_path, {"/proc/sys/kernel/osrelease": release + "\n"})) == name


def test_an_image_has_an_architecture_and_no_machine(tmp_path: Path) -> None:
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(44)
    seen = read_host(write(tmp_path, {"/usr/bin/dash": elf, "/etc/os-release": "ID=debian\n"}))
    assert "arch" not in host(seen)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "usr/bin/sh").symlink_to("dash")
    seen = read_host(FolderRoot(str(tmp_path)))
    assert seen.facts == {"host": {"arch": "aarch64"}}
    assert set(seen.unobserved) == {"host", "driver", "gpu"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads this machine's /proc")
def test_this_machine() -> None:
    found = host(read_host(LiveRoot()))
    assert found["kernel"] == platform.release()
    assert read_arch(LiveRoot()) == platform.machine()
    assert found["shm_gib"]


def test_a_file_systems_size_is_a_live_machines_only(tmp_path: Path) -> None:
    assert LiveRoot().filesystem_size(str(tmp_path)) == shutil.disk_usage(tmp_path).total
    with pytest.raises(UnobservableError, match="No such file"):
        LiveRoot().filesystem_size(str(tmp_path / "nowhere"))
    with pytest.raises(UnobservableError):
        FolderRoot(str(tmp_path)).filesystem_size("/")


def test_garbage_costs_facts_not_the_capture(tmp_path: Path) -> None:
    paths = ["/proc/cpuinfo", "/proc/meminfo", "/proc/mounts", "/proc/self/limits", VARIABLE, "/bin/sh", "/usr/bin/ofed_info",
             "/sys/class/iommu/x/y", "/sys/bus/pci/devices/a/vendor", "/proc/sys/kernel/osrelease"]  # fmt: skip
    root = write(tmp_path, {path: bytes(range(256)) * 64 for path in paths})
    assert host(read_host(root))["platform"] == "linux"
