"""The NVIDIA driver and its GPUs: kernel module, user space, device nodes, and what the loader would find.

Order of belief: NVML in a child process; the kernel's files under /proc and /sys; names of files; the
PCI bus; nvidia-smi last. What none of them tells is unobserved, with the reason of the best of them.
"""

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from envlock.probe.host import nvidia_devices, read_arch, read_platform, why_no_machine
from envlock.probe.observation import Observation, merge
from envlock.probe.root import Root, UnobservableError, try_read
from envlock.probe.toolkit import find_program

SECONDS = 5.0
"""What a hanging driver costs at most, for each question that is put to it."""

# "NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri ..." is the proprietary flavour, "NVIDIA UNIX Open
# Kernel Module for x86_64  580.95.05  Release Build ..." the open one (open-gpu-kernel-modules, nv-procfs.c).
_NVRM = r"NVRM version:\s{1,8}NVIDIA UNIX (Open )?\S{0,20} ?Kernel Module(?: for \S{1,20})?\s{1,8}(\d+\.\d+(?:\.\d+)?)"
_VERSION = r"\d{2,4}\.\d{1,4}(?:\.\d{1,4})?\Z"
_FILE_VERSION = r"\.so\.(\d{3}\.\d{1,4}(?:\.\d{1,4})?)\Z"
_COMPAT = r"/(?:cuda-)?compat(?:_\w+)?/"
_NODE = r"nvidia\d+\Z"

DRIVER_FOLDERS = (
    "/usr/lib/wsl/lib", "/lib/{0}-linux-gnu", "/usr/lib/{0}-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
    "/usr/lib/{0}-linux-gnu/tegra", "/usr/lib/{0}-linux-gnu/nvidia", "/usr/lib/{0}-linux-gnu/nvidia/current",
    "/usr/lib64/nvidia", "/usr/lib/nvidia", "/usr/local/nvidia/lib64", "/run/opengl-driver/lib",
)  # fmt: skip
"""Where drivers lie; {0} is the architecture. The loader itself searches only some of them."""

_MOST_GPUS = 256
_SMI = ("/usr/lib/wsl/lib/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")


class Nvml(NamedTuple):
    """What NVML answered, or why it did not."""

    answer: Dict[str, Any]
    reason: str
    """Why nothing or not everything was answered; empty when all was."""


def read_nvidia(root: Root, timeout: float = SECONDS) -> Observation:
    """Read [driver] and [[gpu]], asking NVML once for both."""
    nvml = ask_nvml(root, timeout)
    return merge([read_driver(root, nvml, timeout), read_gpus(root, nvml, timeout)])


def ask_nvml(root: Root, timeout: float = SECONDS) -> Nvml:
    """Ask NVML in a child process, if there is a library to ask; never takes longer than timeout seconds."""
    if root.kind != "live":
        return Nvml({}, "only a live machine's NVML can be asked")
    if find_library(root, "libnvidia-ml.so.1") is None:
        return Nvml({}, "no libnvidia-ml.so.1 on this machine")
    try:
        # The child ends itself a little earlier, to hand over what was answered before a driver hung.
        answer = root.ask("nvml", [str(timeout * 0.8)], timeout=timeout)
    except UnobservableError as error:
        return Nvml({}, str(error))
    return Nvml(answer, str(answer.get("trouble", "")))


def read_driver(root: Root, nvml: Optional[Nvml] = None, timeout: float = SECONDS) -> Observation:
    """Read [driver]. On a machine that shows an NVIDIA GPU and no driver, the versions are "" (known absent)."""
    seen = Observation()
    reason = why_no_machine(root)
    if reason is not None:
        seen.unobserved["driver"] = reason
        return seen
    nvml = ask_nvml(root, timeout) if nvml is None else nvml
    kernel, flavor = read_kernel_module(root)
    libcuda = find_library(root, "libcuda.so.1") or _stub_on_path(root)
    real = _native_libcuda(root, libcuda)
    user, user_reason = _user_version(root, nvml, real)
    if not (kernel or user or nvml.answer or real):
        _record_no_driver(root, seen, libcuda, nvml)
        return seen
    driver = seen.table("driver")
    if user:
        driver["version"] = user
    elif user_reason:
        seen.unobserved["driver.version"] = user_reason
    else:
        driver["version"] = ""  # the kernel side is there, its libraries are not
    if kernel:
        driver["kernel_module"] = kernel
    if flavor:
        driver["flavor"] = flavor
    _read_cuda(root, seen, nvml, libcuda, real, timeout)
    fabric_manager = _fabric_manager(root)
    if fabric_manager:
        driver["fabric_manager"] = fabric_manager
    driver["libcuda"] = libcuda or ""
    missing = _missing(root, nvml, real, kernel)
    if missing:
        driver["missing"] = missing
    return seen


def read_gpus(root: Root, nvml: Optional[Nvml] = None, timeout: float = SECONDS) -> Observation:
    """Read [[gpu]]: equal GPUs are one entry with a count, in the order in which the bus numbers them."""
    seen = Observation()
    reason = why_no_machine(root)
    if reason is not None:
        seen.unobserved["gpu"] = reason
        return seen
    nvml = ask_nvml(root, timeout) if nvml is None else nvml
    gpus = _gpus_of_nvml(nvml.answer)
    if gpus is None and "no libnvidia-ml" in nvml.reason:
        gpus = _gpus_of_smi(root, timeout) or _gpus_of_libcuda(root, timeout)
    if gpus is not None:
        if any("name" not in gpu for gpu in gpus):
            seen.unobserved["gpu.name"] = (
                nvml.reason or _trouble(nvml.answer) or "NVML did not tell it of every GPU"
            )
        seen.facts["gpu"] = _grouped(gpus)
        return seen
    partial = _gpus_of_procfs(root)
    bus = None if partial else nvidia_devices(root)
    if bus:
        partial = [{"name": _pci_name(root, folder)} for folder in bus]
    if partial:
        seen.facts["gpu"] = _grouped(partial)
        for fact in ("compute_capability", "memory_mib", "mig"):
            seen.unobserved["gpu." + fact] = nvml.reason
    elif bus is None:
        seen.unobserved["gpu"] = nvml.reason + ", and no PCI bus can be seen"
    else:
        seen.unobserved["gpu"] = nvml.reason + ", and no NVIDIA device on the PCI bus"
    return seen


def read_kernel_module(root: Root) -> Tuple[Optional[str], Optional[str]]:
    """Return the loaded kernel module's version and flavor: open or proprietary; nouveau has no version."""
    found = re.search(_NVRM, try_read(root, "/proc/driver/nvidia/version", 4096) or "")
    if found:
        return found.group(2), "open" if found.group(1) else "proprietary"
    version = (try_read(root, "/sys/module/nvidia/version", 256) or "").strip()
    if re.match(_VERSION, version):
        return version, None
    return None, None


def find_library(root: Root, soname: str) -> Optional[str]:
    """Return the file that a driver library's soname leads to, links resolved, or None.

    The order is the loader's for a program without a RUNPATH: LD_LIBRARY_PATH, ld.so.cache, default
    folders; then folders of drivers that the loader does not know.
    """
    return next(_candidates(root, soname), None)


def _candidates(root: Root, soname: str) -> Iterator[str]:
    arch = read_arch(root) or "x86_64"
    wide = arch not in ("i686", "armv7l")
    folders = [part for part in root.environ.get("LD_LIBRARY_PATH", "").split(":") if part.startswith("/")]
    paths = [f"{folder}/{soname}" for folder in folders[:256]]
    paths += _cached(root, soname)
    paths += [f"{folder.format(arch)}/{soname}" for folder in DRIVER_FOLDERS]
    for path in paths:
        if _fits(root, path, wide):
            yield root.realpath(path)


def _fits(root: Root, path: str, wide: bool) -> bool:
    """Tell whether a file is an ELF library of the machine's word size; an empty file stands for any."""
    try:
        with root.open(path) as file:
            head = file.read(5)
    except OSError:
        return False
    # Fixtures and injected placeholders are empty files: container engines mount over them.
    return head == b"" or (head[:4] == b"\x7fELF" and head[4:] == (b"\x02" if wide else b"\x01"))


def _cached(root: Root, soname: str) -> List[str]:
    """Return the paths that ld.so.cache holds for a soname, in its order."""
    try:
        cache = root.read("/etc/ld.so.cache")
    except OSError:
        return []
    found = re.findall(rb"\x00(/[^\x00]{1,4000}/" + re.escape(soname.encode()) + rb")(?=\x00)", cache)
    return [path.decode("utf-8", "replace") for path in found[:16]]


def _stub_on_path(root: Root) -> Optional[str]:
    """Return the toolkit's stub where LD_LIBRARY_PATH leads dlopen("libcuda.so") to it."""
    for folder in root.environ.get("LD_LIBRARY_PATH", "").split(":")[:256]:
        if "/stubs" in folder and root.is_file(folder + "/libcuda.so"):
            return root.realpath(folder + "/libcuda.so")
    return None


def _native_libcuda(root: Root, found: Optional[str]) -> Optional[str]:
    """Return the driver's own libcuda when the one that would be loaded is the stub or the compatibility one."""
    if found is None or not _is_foreign(found):
        return found
    return next((path for path in _candidates(root, "libcuda.so.1") if not _is_foreign(path)), None)


def _is_foreign(path: str) -> bool:
    return "/stubs/" in path or re.search(_COMPAT, path) is not None


def _user_version(root: Root, nvml: Nvml, libcuda: Optional[str]) -> Tuple[Optional[str], Optional[str]]:
    """Return the user-space version, or None and why it cannot be told (no reason: it is not installed)."""
    told = nvml.answer.get("driver")
    if isinstance(told, str) and re.match(_VERSION, told):
        return told, None
    library = find_library(root, "libnvidia-ml.so.1")
    for path in (library, libcuda):
        found = re.search(_FILE_VERSION, path or "")
        if found:
            return found.group(1), None
    if told is not None:
        return None, f"NVML answered {str(told)[:40]!r}, which is no driver version"
    if libcuda is None and library is None:
        return None, None
    release = re.match(
        r"# R(\d+) \(release\), REVISION: ([\d.]+)", try_read(root, "/etc/nv_tegra_release", 4096) or ""
    )
    if release:
        return None, f"the driver is part of Jetson Linux {release.group(1)}.{release.group(2)}"
    return None, nvml.reason or "NVML did not tell it"


def _record_no_driver(root: Root, seen: Observation, libcuda: Optional[str], nvml: Nvml) -> None:
    """Record a machine without a driver: known absent where a GPU is on the bus, else not observable."""
    devices = nvidia_devices(root)
    if devices:
        driver = seen.table("driver")
        driver["version"] = driver["kernel_module"] = ""
        if any(root.realpath(folder + "/driver").endswith("/nouveau") for folder in devices):
            driver["flavor"] = "nouveau"
    else:
        library = nvml.reason if "no libnvidia-ml" not in nvml.reason and root.kind == "live" else ""
        seen.unobserved["driver"] = "no /proc/driver/nvidia/version and " + (
            library or "no libnvidia-ml.so.1 on this machine"
        )
    if libcuda:
        seen.table("driver")["libcuda"] = libcuda


def _read_cuda(
    root: Root, seen: Observation, nvml: Nvml, libcuda: Optional[str], real: Optional[str], timeout: float
) -> None:
    """Record the driver's own CUDA, and that of a compatibility libcuda in front of it.

    NVML's answer follows the libcuda that would be loaded, so with a compatibility one the driver's own
    library is asked by its path.
    """
    driver = seen.table("driver")
    compat = libcuda if libcuda and re.search(_COMPAT, libcuda) else None
    cuda, reason = None, nvml.reason
    if compat is None:
        cuda = _cuda_text(nvml.answer.get("cuda"))
    if cuda is None and real is not None:
        cuda, reason = _ask_libcuda(root, real, timeout)
    elif compat is not None:
        reason = "only a compatibility libcuda was found"
    if cuda:
        driver["cuda"] = cuda
    else:
        seen.unobserved["driver.cuda"] = reason or "NVML did not tell it"
    if compat is not None:
        brought, reason = _ask_libcuda(root, compat, timeout)
        brought = brought or _cuda_of_folder(root, compat)
        if brought:
            driver["compat"] = brought
        else:
            seen.unobserved["driver.compat"] = reason


def _ask_libcuda(root: Root, path: str, timeout: float) -> Tuple[Optional[str], str]:
    try:
        answer = root.ask("libcuda", [path], timeout=timeout)
    except UnobservableError as error:
        return None, str(error)
    return _cuda_text(answer.get("cuda")), f"cuDriverGetVersion answered {str(answer.get('cuda'))[:40]}"


def _cuda_text(number: object) -> Optional[str]:
    """Turn 12080 into "12.8"; 0 and what is no CUDA version become None."""
    if not isinstance(number, int) or not 5000 <= number < 100_000:
        return None
    return f"{number // 1000}.{number % 1000 // 10}"


def _cuda_of_folder(root: Root, libcuda: str) -> Optional[str]:
    """Tell a compatibility libcuda's CUDA from the toolkit that it lies in: /usr/local/cuda-12.4/compat/."""
    found = re.search(r"/cuda-(\d+\.\d+)/compat", root.realpath(libcuda))
    return found.group(1) if found else None


def _fabric_manager(root: Root) -> Optional[str]:
    """Return the fabric manager's version, from the program itself or the package that brought it."""
    program = "/usr/bin/nv-fabricmanager"
    if not root.exists(program):
        return None
    if root.kind == "live":
        try:
            found = re.search(r"(\d{3}\.\d+(?:\.\d+)?)", root.run([program, "--version"], timeout=2.0))
        except UnobservableError:
            found = None
        if found:
            return found.group(1)
    status = try_read(root, "/var/lib/dpkg/status", 64 << 20) or ""
    found = re.search(
        r"^Package: nvidia-fabricmanager[^\n]*\n(?:\S[^\n]*\n| [^\n]*\n){0,40}?Version: (?:\d+:)?(\d{3}[\d.]+)",
        status,
        re.M,
    )
    return found.group(1) if found else None


def _missing(root: Root, nvml: Nvml, libcuda: Optional[str], kernel: Optional[str]) -> List[str]:
    """Return the device nodes and the link that a working driver has and this one lacks.

    Where nvidia-modprobe is installed the first CUDA program makes the nodes, so that they are not
    missing before. GPUs that NVML reaches have their nodes; a container may be given only some.
    """
    missing = []
    if root.is_dir("/dev") and kernel:
        on_demand = any(
            root.exists(folder + "/nvidia-modprobe") for folder in ("/usr/bin", "/usr/sbin", "/sbin")
        )
        try:
            nodes = [entry.name for entry in root.scan("/dev") if entry.name.startswith("nvidia")]
        except OSError:
            nodes = []
        if not on_demand:
            missing += ["/dev/" + name for name in ("nvidiactl",) if name not in nodes]
            if not any(re.match(_NODE, name) for name in nodes):
                missing.append("/dev/nvidia0")
        if "nvidia-uvm" not in nodes and (not on_demand or root.is_dir("/sys/module/nvidia_uvm")):
            missing.append("/dev/nvidia-uvm")
    if libcuda is not None and libcuda.rsplit("/", 1)[1].startswith("libcuda.so."):
        link = libcuda.rsplit("/", 1)[0] + "/libcuda.so"
        if not root.exists(link):
            missing.append(link)
    return sorted(missing)


def _gpus_of_nvml(answer: Dict[str, Any]) -> Optional[List[Dict[str, Any]]]:
    """Return NVML's GPUs in the manifest's terms, without what cannot be true; None where it told of none.

    A GPU that was counted and then not described is an empty entry: it is there, of an unknown kind.
    """
    told, count = answer.get("gpus"), answer.get("count")
    if not isinstance(told, list) or not isinstance(count, int) or not 0 <= count <= _MOST_GPUS:
        return None
    described = [_believable(gpu) for gpu in told[:count] if isinstance(gpu, dict)]
    if count and not any(described):
        return None
    return described + [{} for _ in range(count - len(described))]


def _trouble(answer: Dict[str, Any]) -> str:
    """Return why NVML could not describe a GPU, for the first of which it said so."""
    told = [gpu.get("trouble") for gpu in answer.get("gpus", ()) if isinstance(gpu, dict)]
    return next((str(text)[:200] for text in told if text), "")


def _believable(told: Dict[str, Any]) -> Dict[str, Any]:
    gpu: Dict[str, Any] = {}
    name, memory = told.get("name"), told.get("memory")
    cc: Any = told.get("cc")
    if isinstance(name, str) and name.strip() and name.isprintable() and "\ufffd" not in name:
        gpu["name"] = name.strip()
    numbers = isinstance(cc, list) and len(cc) == 2 and all(isinstance(part, int) for part in cc)
    if numbers and 1 <= cc[0] < 100 and 0 <= cc[1] < 10:
        gpu["compute_capability"] = f"{cc[0]}.{cc[1]}"
    if isinstance(memory, int) and 0 < memory < 1 << 50:
        gpu["memory_mib"] = memory >> 20
    if isinstance(told.get("mig"), bool):
        gpu["mig"] = told["mig"]
    return gpu


def _gpus_of_smi(root: Root, timeout: float) -> Optional[List[Dict[str, Any]]]:
    """Ask nvidia-smi: only where NVML's library is nowhere to be found, though it may know where."""
    program = find_program(root, "nvidia-smi") or next((path for path in _SMI if root.is_file(path)), None)
    if program is None or root.kind != "live":
        return None
    query = [
        program,
        "--query-gpu=name,compute_cap,memory.total,mig.mode.current",
        "--format=csv,noheader,nounits",
    ]
    try:
        output = root.run(query, timeout=timeout)
    except UnobservableError:
        return None
    gpus = []
    for line in output.splitlines()[:_MOST_GPUS]:
        fields = [field.strip() for field in line.rsplit(",", 3)]
        if len(fields) == 4 and fields[2].isdigit():
            cc = fields[1].split(".")
            parts = [int(part) for part in cc] if all(part.isdigit() for part in cc) else []
            told = {
                "name": fields[0],
                "memory": int(fields[2]) << 20,
                "cc": parts,
                "mig": fields[3] == "Enabled",
            }
            gpus.append(_believable(told))
    return gpus or None


def _gpus_of_libcuda(root: Root, timeout: float) -> Optional[List[Dict[str, Any]]]:
    """Ask libcuda itself, on a Jetson only: there is no NVML there, and no other way to the GPU."""
    libcuda = find_library(root, "libcuda.so.1")
    if libcuda is None or root.kind != "live" or read_platform(root) != "tegra":
        return None
    try:
        told = root.ask("libcuda", [libcuda, "devices"], timeout=timeout).get("gpus")
    except UnobservableError:
        return None
    return (
        [_believable(gpu) for gpu in told if isinstance(gpu, dict)]
        if isinstance(told, list) and told
        else None
    )


def _gpus_of_procfs(root: Root) -> List[Dict[str, Any]]:
    """Return the names that the kernel module tells; it tells no memory and no compute capability."""
    folder = "/proc/driver/nvidia/gpus"
    try:
        names = [entry.name for entry in root.scan(folder)][:256]
    except OSError:
        return []
    gpus = []
    for name in names:
        found = re.search(
            r"^Model:[ \t]*(\S.*?)[ \t]*$", try_read(root, f"{folder}/{name}/information", 65536) or "", re.M
        )
        if found:
            gpus.append({"name": found.group(1)})
    return gpus


def _pci_name(root: Root, folder: str) -> str:
    device = (try_read(root, folder + "/device", 64) or "").strip()
    known = re.match(r"0x([0-9a-f]{4})\Z", device)
    return "NVIDIA device 10de:" + (known.group(1) if known else "????")


def _grouped(gpus: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    groups: Dict[Tuple[Tuple[str, Any], ...], Dict[str, Any]] = {}
    for gpu in gpus:
        group = groups.setdefault(tuple(sorted(gpu.items())), {**gpu, "count": 0})
        group["count"] += 1
    return list(groups.values())
