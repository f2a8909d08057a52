"""The machine under the operating system: kernel, processor, memory, and what of them disturbs GPU work.

Everything comes from /proc and /sys, so that a folder which holds copies of these trees reads like
the machine itself. Names of interfaces are facts, addresses and host names are not.
"""

import re
import sys
from typing import List, Optional

from envlock.probe.observation import Observation
from envlock.probe.root import Root, UnobservableError, try_read

CPU_LEVELS = (
    # psABI x86-64 (gitlab.com/x86-psABIs), with the names that Linux gives the flags in /proc/cpuinfo:
    # SSE3 is pni, LZCNT is abm, LAHF-SAHF is lahf_lm.
    ("x86-64-v1", "lm cmov cx8 fpu fxsr mmx syscall sse2"),
    ("x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    ("x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"),
)
MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x03: "i686", 0x15: "ppc64le", 0xF3: "riscv64", 0x28: "armv7l"}
"""e_machine of an ELF header -> what uname calls it (elf.h)."""

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
NVIDIA_VENDOR = "0x10de"
SHM = "/dev/shm"  # noqa: S108 - a mount point that is looked up, not a folder to write in
_NAMED_AT_RANDOM = re.compile(
    r"veth|br-[0-9a-f]{8,}$|cali[0-9a-f]{8,}$|lxc[0-9a-f]{8,}$|lxc_health$|tunl\d+$"
)


def why_no_machine(root: Root) -> Optional[str]:
    """Return why this root has no driver, GPU or kernel to read, or None where it has.

    A folder is a machine when it holds something under /proc or /sys: a copy of them made on purpose.
    """
    if root.kind == "live":
        return None
    if root.kind == "image":
        return "an image holds no machine"
    if _names(root, "/proc") or _names(root, "/sys"):
        return None
    return "a folder without /proc and /sys holds no machine"


def read_host(root: Root) -> Observation:
    """Read [host]; of an image only the architecture is known, from its binaries."""
    seen = Observation()
    host = seen.table("host")
    _put(host, "arch", read_arch(root))
    reason = why_no_machine(root)
    if reason is not None:
        seen.unobserved.update({"host": reason, "driver": reason, "gpu": reason})
        return seen
    _put(host, "kernel", _line(root, "/proc/sys/kernel/osrelease"))
    _put(host, "platform", read_platform(root))
    cpuinfo = _first_cpu(root)
    _put(host, "cpu", _field(cpuinfo, "model name"))
    _put(host, "cpu_level", _cpu_level(_field(cpuinfo, "flags")))
    _put(host, "memory_gib", _memory_gib(root))
    _read_shm(root, seen)
    _read_iommu(root, seen)
    _read_acs(root, seen)
    _read_secure_boot(root, seen)
    _put(host, "memlock_kib", _memlock_kib(root))
    if root.is_dir("/sys/class/net"):
        host["interfaces"] = _interfaces(root)
    _put(host, "rdma", _rdma(root))
    return seen


def read_platform(root: Root) -> str:
    """Tell what kind of system this is: linux, wsl2, tegra, darwin or windows."""
    if root.kind == "live" and sys.platform in ("darwin", "win32"):
        return "windows" if sys.platform == "win32" else "darwin"
    release = (_line(root, "/proc/sys/kernel/osrelease") or "").lower()
    if "microsoft" in release or root.exists("/dev/dxg"):
        return "wsl2"
    if release.endswith("-tegra") or root.exists("/etc/nv_tegra_release"):
        return "tegra"
    return "linux"


def read_arch(root: Root) -> Optional[str]:
    """Tell the architecture of the root's programs from an ELF header, as uname would name it."""
    candidates = ["/bin/sh", "/usr/bin/env", "/bin/busybox", "/proc/self/exe"]
    for folder in ("/lib64", "/lib"):
        candidates += [f"{folder}/{name}" for name in _names(root, folder) if name.startswith("ld-")]
    for path in candidates:
        header = _head(root, path, 20)
        if header[:4] == b"\x7fELF" and len(header) == 20:
            order = "big" if header[5] == 2 else "little"
            machine = MACHINES.get(int.from_bytes(header[18:20], order))  # type: ignore[arg-type]
            if machine is not None:
                return machine
    return _line(root, "/proc/sys/kernel/arch")


def nvidia_devices(root: Root) -> Optional[List[str]]:
    """Return the folders of NVIDIA's display controllers on the PCI bus, or None where no bus can be seen."""
    bus = "/sys/bus/pci/devices"
    names = _names(root, bus)
    if not names:
        return None
    found = []
    for name in names[:4096]:
        folder = f"{bus}/{name}"
        # 0x0300 is a VGA controller, 0x0302 a 3D controller; 0x0403 would be the card's sound.
        if _line(root, folder + "/vendor") == NVIDIA_VENDOR and _is_class(root, folder, "0x03"):
            found.append(folder)
    return found


def _is_class(root: Root, folder: str, start: str) -> bool:
    return (_line(root, folder + "/class") or "").startswith(start)


def _put(table: "dict[str, object]", key: str, value: Optional[object]) -> None:
    if value is not None:
        table[key] = value


def _names(root: Root, folder: str) -> List[str]:
    try:
        return [entry.name for entry in root.scan(folder)]
    except OSError:
        return []


def _line(root: Root, path: str) -> Optional[str]:
    text = try_read(root, path, 4096)
    return text.strip() or None if text is not None else None


def _head(root: Root, path: str, size: int) -> bytes:
    try:
        with root.open(path) as file:
            return file.read(size)
    except OSError:
        return b""


def _first_cpu(root: Root) -> str:
    """Return /proc/cpuinfo's first processor: the whole of it takes long to make on a big machine."""
    text = b""
    try:
        with root.open("/proc/cpuinfo") as file:
            while len(text) < 65536 and b"\n\n" not in text:
                piece = file.read(8192)
                if not piece:
                    break
                text += piece
    except OSError:
        pass
    return text.decode("utf-8", "replace").split("\n\n", 1)[0]


def _field(text: str, name: str) -> Optional[str]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.rstrip() == name and value.strip():
            return value.strip()
    return None


def _cpu_level(flags: Optional[str]) -> Optional[str]:
    held = set((flags or "").split())
    reached = None
    for level, needed in CPU_LEVELS:
        if not held.issuperset(needed.split()):
            break
        reached = level
    return reached


def _memory_gib(root: Root) -> Optional[int]:
    found = re.search(r"^MemTotal:\s+(\d{1,15}) kB", try_read(root, "/proc/meminfo", 65536) or "", re.M)
    return round(int(found.group(1)) / 1048576) if found else None


def _read_shm(root: Root, seen: Observation) -> None:
    """Record /dev/shm's size: as mounted, else as the file system says (tmpfs's default is half the memory)."""
    size: Optional[int] = None
    mounted = False
    mounts = try_read(root, "/proc/self/mounts", 1 << 20) or try_read(root, "/proc/mounts", 1 << 20) or ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) >= 4 and fields[1] == SHM:
            mounted = True
            option = re.search(r"(?:^|,)size=(\d{1,18})([kmg]?)(?:,|$)", fields[3])
            scale = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
            size = int(option.group(1)) * scale[option.group(2)] if option else None
    if size is None and root.kind == "live" and root.is_dir(SHM):
        try:
            size = root.filesystem_size(SHM)
        except UnobservableError as error:
            seen.unobserved["host.shm_gib"] = str(error)
    if size is not None:
        gib = size / (1 << 30)
        # A container's usual 64 MiB must not be rounded away.
        seen.table("host")["shm_gib"] = round(gib) if gib >= 2 or gib == int(gib) else round(gib, 3)
    elif mounted:
        seen.unobserved.setdefault("host.shm_gib", SHM + " is mounted without a size option")


def _read_iommu(root: Root, seen: Observation) -> None:
    """Record whether an IOMMU translates device addresses; one that only passes through disturbs nobody.

    Linux gives each IOMMU a folder in /sys/class/iommu, and each group a type: "identity" is
    pass-through, "DMA" and "DMA-FQ" translate (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
    """
    if not root.is_dir("/sys/class"):
        seen.unobserved["host.iommu"] = "/sys/class cannot be read"
        return
    host = seen.table("host")
    if not _names(root, "/sys/class/iommu"):
        host["iommu"] = False
        return
    groups = "/sys/kernel/iommu_groups"
    types = [_line(root, f"{groups}/{name}/type") for name in _names(root, groups)[:32]]
    known = [kind for kind in types if kind]
    if known:
        host["iommu"] = any(kind.startswith("DMA") for kind in known)
        return
    options = (_line(root, "/proc/cmdline") or "").split()
    host["iommu"] = not {"iommu=pt", "iommu=off", "iommu.passthrough=1", "intel_iommu=off"} & set(options)


def _read_acs(root: Root, seen: Observation) -> None:
    """Record whether a PCI bridge redirects peer-to-peer traffic; looked at only where there are GPUs."""
    if not nvidia_devices(root):
        return
    bus = "/sys/bus/pci/devices"
    bridges = [
        name
        for name in _names(root, bus)[:4096]
        if (_line(root, f"{bus}/{name}/class") or "").startswith("0x0604")
    ]
    answers = [_acs_redirects(_head(root, f"{bus}/{name}/config", 4096)) for name in bridges[:512]]
    if any(answers):
        seen.table("host")["pcie_acs"] = True
    elif None in answers:
        seen.unobserved["host.pcie_acs"] = "reading the PCI bridges' extended configuration needs root"
    else:
        seen.table("host")["pcie_acs"] = False


def _acs_redirects(config: bytes) -> Optional[bool]:
    """Tell whether a bridge's ACS control register asks for redirection; None where it cannot be read.

    PCI Express Base Specification: extended capabilities start at 0x100, each a u16 id, then version
    and next offset; ACS is 0x000D with its control register at +6, P2P Request Redirect bit 2,
    P2P Completion Redirect bit 3.
    """
    if len(config) <= 256:
        return None
    at = 0x100
    for _ in range(64):
        if at < 0x100 or at + 8 > len(config):
            return False
        header = int.from_bytes(config[at : at + 4], "little")
        if header & 0xFFFF == 0x000D:
            return bool(int.from_bytes(config[at + 6 : at + 8], "little") & 0b1100)
        at = header >> 20
    return False


def _read_secure_boot(root: Root, seen: Observation) -> None:
    """Record Secure Boot from the EFI variable: four bytes of attributes, then 0 or 1 (UEFI 3.3)."""
    value = _head(root, SECURE_BOOT, 5)
    if len(value) == 5:
        seen.table("host")["secure_boot"] = value[4] == 1
    elif root.exists("/sys/firmware/efi"):
        seen.unobserved["host.secure_boot"] = "the EFI variable SecureBoot cannot be read"
    elif _names(root, "/sys/firmware"):
        seen.table("host")["secure_boot"] = False
    elif root.is_dir("/sys"):
        # Container engines put an empty file system over /sys/firmware.
        seen.unobserved["host.secure_boot"] = "/sys/firmware is empty or hidden"


def _memlock_kib(root: Root) -> Optional[int]:
    limits = try_read(root, "/proc/self/limits", 65536) or ""
    found = re.search(r"^Max locked memory\s+(unlimited|\d{1,20})\s", limits, re.M)
    if found is None:
        return None
    return -1 if found.group(1) == "unlimited" else int(found.group(1)) // 1024


def _interfaces(root: Root) -> List[str]:
    names = _names(root, "/sys/class/net")
    return sorted(name for name in names if name != "lo" and not _NAMED_AT_RANDOM.match(name))[:256]


def _rdma(root: Root) -> Optional[str]:
    """Name the RDMA release: NVIDIA's OFED from the text of its ofed_info script, HPC-X, else rdma-core."""
    script = try_read(root, "/usr/bin/ofed_info", 1 << 20) or ""
    found = re.search(r"(MLNX_OFED|DOCA-OFED|OFED-internal)(?:_LINUX)?-(\d[\w.]*)", script)
    if found:
        return f"{found.group(1)} {found.group(2)}"
    found = re.search(r"(\d+\.\d+(?:\.\d+)?)", try_read(root, "/opt/hpcx/VERSION", 4096) or "")
    if found:
        return f"HPC-X {found.group(1)}"
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        # rdma-core names the file after itself: libibverbs.so.1.<ABI>.<release>.
        found = re.search(r"libibverbs\.so\.1\.\d+\.(\d+\.\d+)$", root.realpath(folder + "/libibverbs.so.1"))
        if found:
            return f"rdma-core {found.group(1)}"
    return None
