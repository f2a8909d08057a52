"""Rules about the driver: is it there, is it new enough, do its parts belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from envlock.manifest.versions import dotted, matches, release, series
from envlock.matrix.lookup import branch_row, driver_for_cuda
from envlock.rules.engine import rule
from envlock.rules.gpus import capability_rows, devices
from envlock.rules.model import Evidence, Finding, Fix, Unknown

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]


class Need(NamedTuple):
    """A CUDA that something on this machine was built with or ships."""

    cuda: str
    address: str
    what: str
    """In words: "torch 2.4.0+cu124"."""
    project: str = ""
    """The framework, where it is one."""
    likely: bool = False
    """True for what the index's default build needs, where the build itself is not stated."""


FRAMEWORKS = ("torch", "tensorflow", "jax", "onnxruntime", "cupy", "paddle")
"""Frameworks whose builds spell out their CUDA where only a package is recorded."""


def cuda_needs(stack: Stack, matrix: Matrix) -> list[Need]:
    """Return the CUDA runtimes in use: of each framework, else of the effective cudart."""
    needs = []
    for name in dict.fromkeys([*stack.frameworks, *FRAMEWORKS]):
        build = stack.build(name)
        if build is not None and build.cuda and "." in build.cuda:
            address = build.facts[0][0] if build.facts else f"framework.{name}.cuda"
            needs.append(Need(build.cuda, address, build.label, name))
    if needs:
        return needs
    for library in stack.libraries("cudart"):
        if library.version and (library.used_by or len(stack.libraries("cudart")) == 1):
            needs.append(Need(library.version, "library.cudart", "the CUDA runtime"))
    return needs or _likely_need(stack, matrix) or _need_of_image(stack, matrix)


_CUDA_IMAGE = re.compile(r"(?:^|/)nvidia/cuda(?:gl)?:(\d+\.\d+)|:[^:]*?cuda-?(\d+\.\d+)")
_NGC_IMAGE = re.compile(r"(?:^|/)nvcr\.io/nvidia/(?:\w+/)?[\w-]+:(\d{2}\.\d{2})(?=-|$)")


def _need_of_image(stack: Stack, matrix: Matrix) -> list[Need]:
    """Return the CUDA of an image by its tag ("nvidia/cuda:12.4.1-base", "pytorch:2.1.0-cuda11.8", "pytorch:24.05-py3").

    Of NVIDIA's images of a month that is the least that they can hold. They bring a forward-compatibility libcuda,
    which serves data-centre GPUs.
    """
    image = stack.manifest.container.image or ""
    if found := _CUDA_IMAGE.search(image):
        return [Need(found[1] or found[2], "container.image", f"image {image}", likely=True)]
    found = _NGC_IMAGE.search(image)
    rows = [row for row in matrix.rows("container", "ngc") if found and row["release"] <= found[1]]
    served = any(device.line == "data centre" for device in devices(stack, matrix))
    if not rows or served:
        return []
    newest = max(rows, key=lambda row: row["release"])
    return [Need(newest["cuda"], "container.image", f"image {image}", likely=True)]


def _likely_need(stack: Stack, matrix: Matrix) -> list[Need]:
    """Return what PyPI's build of a torch release needs, where a paste states the release and nothing else."""
    torch = stack.pip("torch")
    if not stack.partial or torch is None or not torch.version or "+" in torch.version:
        return []
    row = next((row for row in matrix.rows("torch", "release") if row["version"] == torch.version), None)
    if row is None or not row.get("cuda"):
        return []
    return [
        Need(row["cuda"], "package.pip.torch", f"torch {torch.version} as PyPI has it", "torch", likely=True)
    ]


def driver_cuda(stack: Stack, matrix: Matrix) -> tuple[int, ...]:
    """Return the highest CUDA that the driver itself supports: as it said, else by its branch; () if not known."""
    if stack.driver.cuda:
        return series(stack.driver.cuda)
    row = branch_row(matrix, stack.driver.version, stack.driver_platform)
    return series(row.get("max_cuda")) if row else _cuda_of_old_driver(stack, matrix)


def _cuda_of_old_driver(stack: Stack, matrix: Matrix) -> tuple[int, ...]:
    """Return the newest CUDA whose own driver is no newer than this one, for drivers before the listed branches."""
    have = release(stack.driver.version)
    oldest = min(release(row["branch"]) for row in matrix.rows("driver", "branch"))
    if not have or have >= oldest:
        return ()
    column = f"driver_{stack.driver_platform}"
    floors = [
        (release(row[column]), series(row["cuda"])) for row in matrix.rows("cuda", "toolkit") if column in row
    ]
    return max((cuda for floor, cuda in floors if floor <= have), default=())


@rule("driver-missing", layer="driver", needs=("gpu", "driver"))
def driver_missing(stack: Stack, matrix: Matrix) -> Outcome:
    """A GPU is there, and no NVIDIA driver is loaded for it.

    Shows itself as "Found no NVIDIA driver on your system", "NVIDIA-SMI has failed because it couldn't
    communicate with the NVIDIA driver", or cudaErrorNoDevice. The module was never installed, was not
    rebuilt for a new kernel, or nouveau holds the card.

    Fix: install the driver (or boot the kernel that its module was built for) and load it.

    Source: NVIDIA Driver Installation Guide, verification of the driver.
    """
    driver = stack.driver
    if any((driver.version, driver.kernel_module, driver.cuda, driver.libcuda)) or not stack.gpus:
        return
    if stack.manifest.container.runtime or (
        stack.partial and "driver" not in stack.manifest.capture.unobserved
    ):
        return
    yield Finding(
        subject="driver",
        message=f"{devices(stack, matrix)[0].label} is there, but no NVIDIA driver is loaded",
        evidence=(
            Evidence("gpu", [gpu.name for gpu in stack.gpus]),
            Evidence("driver", stack.unobserved("driver") or None),
        ),
        source="NVIDIA Driver Installation Guide, Post-installation actions",
    )


@rule(
    "driver-too-old-for-cuda",
    layer="driver",
    needs=("driver.version|driver.cuda", "framework.*.cuda|library.cudart"),
)
def driver_too_old_for_cuda(stack: Stack, matrix: Matrix) -> Outcome:
    """A CUDA runtime needs a driver at least as new as its major version's first one.

    Shows itself as "The NVIDIA driver on your system is too old", cudaErrorInsufficientDriver (35) or
    is_available() being False. From CUDA 11 on all minors of a major run on the driver of the first one
    (minor-version compatibility), before that each minor needs its own. A forward-compatibility libcuda
    lifts the limit on data-centre GPUs. Code that must be compiled from PTX on the machine is not covered. Inside
    WSL2 the driver is that of Windows, whose versions are counted differently.

    Fix: a newer driver (for WSL2 on Windows), or a build of the framework for an older CUDA.

    Source: CUDA Toolkit release notes, CUDA Driver: the tables of driver ranges and versions; CUDA Compatibility,
    Forward Compatibility; CUDA on WSL User Guide, CUDA Support for WSL 2.
    """
    driver = stack.driver
    if not (driver.version or driver.cuda):
        return
    for need in cuda_needs(stack, matrix):
        wanted = series(need.cuda)
        if driver.compat and series(driver.compat) >= wanted:
            continue
        floor, source, known = driver_floor(wanted, stack, matrix)
        if not known:
            yield Unknown(needs=f"the driver that CUDA {dotted(wanted)} needs ({need.what})")
            continue
        if not below_floor(stack, floor, wanted, matrix):
            continue
        have = (
            f"driver {driver.version}"
            if driver.version
            else f"the driver, which supports CUDA {driver.cuda},"
        )
        runs = _cuda_that_runs(stack, matrix)
        yield Finding(
            subject=stack.driver_address if driver.version else "driver.cuda",
            message=f"{have} is too old for CUDA {dotted(wanted)} ({need.what}): it needs {floor} or newer",
            evidence=(
                *([Evidence(stack.driver_address, driver.version)] if driver.version else []),
                *([Evidence("driver.cuda", driver.cuda)] if driver.cuda else []),
                Evidence(
                    need.address,
                    need.cuda
                    if need.address.endswith((".cuda", "cudart"))
                    else need.what.removeprefix("image "),
                ),
            ),
            severity="warning" if need.likely else "error",
            fixes=(
                Fix(
                    address="driver.version",
                    to=f">={floor}",
                    message=f"install NVIDIA driver {floor} or newer"
                    + (" on Windows, and none inside WSL2" if stack.wsl2 else ""),
                    trial={
                        "driver.version": floor,
                        "driver.kernel_module": None,
                        "driver.cuda": dotted(wanted),
                    },
                ),
                *_older_build(need, runs, stack, matrix),
            ),
            source=source,
        )


def driver_floor(wanted: tuple[int, ...], stack: Stack, matrix: Matrix) -> tuple[str, str, bool]:
    """Return the oldest driver that runs a CUDA (x, y), its source, and whether the matrix knows it."""
    floor = driver_for_cuda(matrix, dotted(wanted), stack.driver_platform)
    return (floor.version, floor.row["source"], True) if floor else ("", "", False)


def below_floor(stack: Stack, floor: str, wanted: tuple[int, ...], matrix: Matrix) -> bool:
    """Tell whether the driver is below a floor; where only its CUDA is known, by that."""
    driver = stack.driver
    have, need = release(driver.version), release(floor)
    if have:
        if len(have) == 1 or (len(have) < len(need) and have == need[: len(have)]):
            return have[0] < need[0]
        return have < need
    highest = series(driver.cuda)
    # From CUDA 11 on a driver of the same major will do.
    return bool(highest) and (highest[0] < wanted[0] if wanted[0] >= 11 else highest < wanted)


def _cuda_that_runs(stack: Stack, matrix: Matrix) -> str:
    highest = driver_cuda(stack, matrix)
    return dotted(highest) if highest else ""


def _older_build(need: Need, runs: str, stack: Stack, matrix: Matrix) -> tuple[Fix, ...]:
    """Return fixes that replace the framework: by builds that are known to run, else by one for an older CUDA."""
    from envlock.rules.advise import rebuild_fixes

    if not runs or not need.project:
        return ()
    known = rebuild_fixes(stack, matrix, need.project)
    if known or not need.address.endswith(".cuda"):
        return known
    return (
        Fix(
            address=need.address,
            to=f"<={runs}",
            message=f"install a build of {need.project} for CUDA {runs} or older",
            trial={need.address: runs},
        ),
    )


def driver_branch(stack: Stack, matrix: Matrix) -> int | None:
    """Return the number of the driver's branch: 535 for 535.104.05, on Windows for 537.13 too."""
    row = branch_row(matrix, stack.driver.version, stack.driver_platform)
    return int(row["branch"]) if row else next(iter(release(stack.driver.version)), None)


@rule("driver-too-old-for-gpu", layer="driver", needs=("driver.version", "gpu"))
def driver_too_old_for_gpu(stack: Stack, matrix: Matrix) -> Outcome:
    """A GPU's architecture needs a newer driver branch.

    Shows itself as "No devices were found", or as a kernel log line that says the GPU is not supported by
    this driver release.

    Fix: the first branch that knows the architecture, or newer.

    Source: CUDA Toolkit, Driver, and Architecture Matrix (NVIDIA Data Center Drivers).
    """
    branch = driver_branch(stack, matrix)
    if branch is None:
        return
    for device in devices(stack, matrix):
        for row in capability_rows(device, matrix.rows("driver", "gpu-support")):
            first = row.get("first_branch")
            if first and branch < int(first):
                yield Finding(
                    subject=stack.driver_address,
                    message=f"driver {stack.driver.version} does not know {device.label}: "
                    f"{row['architecture']} needs branch {first} or newer",
                    evidence=(
                        Evidence(stack.driver_address, stack.driver.version),
                        Evidence("gpu", device.label),
                    ),
                    fixes=(_driver_fix(first, f"install a driver of branch {first} or newer"),),
                    source=row["source"],
                )


@rule("driver-dropped-gpu", layer="driver", needs=("driver.version", "gpu"))
def driver_dropped_gpu(stack: Stack, matrix: Matrix) -> Outcome:
    """This driver branch no longer supports the GPU.

    Shows itself as "The NVIDIA GPU ... installed in this system is supported through the legacy driver";
    nvidia-smi finds no device after an upgrade.

    Fix: the last branch that supports the GPU.

    Source: CUDA Toolkit, Driver, and Architecture Matrix (NVIDIA Data Center Drivers).
    """
    branch = driver_branch(stack, matrix)
    if branch is None:
        return
    for device in devices(stack, matrix):
        for row in capability_rows(device, matrix.rows("driver", "gpu-support")):
            last = row.get("last_branch")
            if last and branch > int(last):
                yield Finding(
                    subject=stack.driver_address,
                    message=f"driver {stack.driver.version} no longer supports {device.label}: branch {last} was the "
                    f"last for {row['architecture']}",
                    evidence=(
                        Evidence(stack.driver_address, stack.driver.version),
                        Evidence("gpu", device.label),
                    ),
                    fixes=(_driver_fix(last, f"install the newest driver of branch {last}"),),
                    source=row["source"],
                )


def _driver_fix(branch: str, message: str) -> Fix:
    trial = {"driver.version": branch, "driver.kernel_module": None, "driver.cuda": None}
    return Fix(address="driver.version", to=branch, message=message, trial=trial)


@rule("driver-kernel-user-mismatch", layer="driver", needs=("driver.version", "driver.kernel_module"))
def driver_kernel_user_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """The loaded kernel module and the user-space libraries come from different driver versions.

    Shows itself as "Failed to initialize NVML: Driver/library version mismatch" and CUDA error 803 or 999,
    typically after an unattended upgrade without a reboot.

    Fix: reboot, or unload and reload the nvidia modules when nothing uses the GPU.

    Source: NVIDIA driver README, "kernel module and user-space components must be of the same version".
    """
    driver = stack.driver
    if not driver.version or not driver.kernel_module:
        return
    one, two = release(driver.version), release(driver.kernel_module)
    size = min(len(one), len(two))
    if not size or one[:size] == two[:size]:
        return
    yield Finding(
        subject="driver.kernel_module",
        message=f"the kernel module is {driver.kernel_module} and the driver's libraries are {driver.version}: "
        "an upgrade without a reboot",
        evidence=(
            Evidence("driver.kernel_module", driver.kernel_module),
            Evidence(stack.driver_address, driver.version),
        ),
        fixes=(
            Fix(
                address="driver.kernel_module",
                to=driver.version,
                message=f"reboot, so that the module of {driver.version} is loaded",
                trial={"driver.kernel_module": driver.version},
            ),
        ),
        source="NVIDIA Accelerated Linux Graphics Driver README, Installed components",
    )


@rule("kernel-module-blocked", layer="driver", needs=("driver.flavor|host.secure_boot", "gpu"))
def kernel_module_blocked(stack: Stack, matrix: Matrix) -> Outcome:
    """Something keeps the driver's kernel module from loading or from taking the GPU.

    Shows itself as "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service" (Secure Boot),
    or as a kernel log that asks for the open (or refuses the proprietary) module for this GPU.

    Fix: sign the module or enrol its key (mokutil), or install the flavour that the GPU needs.

    Source: NVIDIA/open-gpu-kernel-modules README; NVIDIA blog of 2024-07-17 on open kernel modules.
    """
    driver = stack.driver
    if stack.manifest.host.secure_boot and not driver.kernel_module:
        yield from _secure_boot(stack)
    if driver.flavor not in ("open", "proprietary"):
        return
    for device in devices(stack, matrix):
        for row in capability_rows(device, matrix.rows("driver", "open-module")):
            names = row.get("names")
            if names and not any(name in (device.name or "") for name in names):
                continue
            wrong = {"required": "proprietary", "unsupported": "open"}.get(row["open"])
            if driver.flavor == wrong:
                other = "open" if wrong == "proprietary" else "proprietary"
                yield Finding(
                    subject="driver.flavor",
                    message=f"{device.label} needs the {other} kernel module, and the {wrong} one is installed",
                    evidence=(Evidence("driver.flavor", driver.flavor), Evidence("gpu", device.label)),
                    fixes=(
                        Fix(
                            address="driver.flavor",
                            to=other,
                            message=f"install the {other} kernel modules of the driver",
                            trial={"driver.flavor": other},
                        ),
                    ),
                    source=row["source"],
                )
                return


def _secure_boot(stack: Stack) -> Outcome:
    """Judge a Secure Boot that is on where no kernel module is seen: certain only with a driver to load."""
    driver = stack.driver
    reason = stack.unobserved("driver.kernel_module")
    installed = bool(driver.version) and (not stack.partial or reason is not None)
    # Without a driver, and without a GPU or a report that mentions Secure Boot, there is no module to refuse.
    if not installed and not (stack.gpus and reason) and not stack.partial:
        return
    yield Finding(
        subject="host.secure_boot",
        message="Secure Boot is on and the driver's kernel module is not loaded: an unsigned module is refused"
        if installed or reason
        else "Secure Boot is on: a kernel module of the driver that is not signed is refused",
        evidence=(
            Evidence("host.secure_boot", True),
            Evidence("driver.kernel_module", reason),
            *([Evidence(stack.driver_address, driver.version)] if driver.version else []),
        ),
        severity="error" if installed else "warning" if reason or not driver.version else "note",
        source="NVIDIA Driver Installation Guide, Secure Boot",
    )


@rule("device-node-missing", layer="driver", needs=("driver",))
def device_node_missing(stack: Stack, matrix: Matrix) -> Outcome:
    """A device node, or a link that programs build against, is not there although a driver is.

    Shows itself as cudaErrorUnknown or "CUDA unknown error" (without /dev/nvidia-uvm), or as "cannot find
    -lcuda" from Triton (without the libcuda.so link).

    Fix: nvidia-modprobe -c0 -u creates the nodes; for the link, ldconfig or the driver's -dev package.

    Source: NVIDIA driver README, device nodes; nvidia-modprobe(1).
    """
    for path in stack.driver.missing:
        uvm = path.startswith("/dev/")
        advice = "run nvidia-modprobe -c0 -u" if uvm else f"make the link {path} to libcuda.so.1"
        rest = tuple(each for each in stack.driver.missing if each != path)
        yield Finding(
            subject="driver.missing",
            message=f"{path} is not there although a driver is loaded",
            evidence=(
                Evidence("driver.missing", list(stack.driver.missing)),
                Evidence(stack.driver_address, stack.driver.version),
            ),
            fixes=(Fix("driver.missing", "none", advice, {"driver.missing": list(rest)}),)
            if not rest
            else (),
            severity="error" if uvm else "warning",
            source="NVIDIA Accelerated Linux Graphics Driver README, device nodes; nvidia-modprobe(1)",
        )
        return


@rule("driver-known-bad", layer="driver", severity="warning")
def driver_known_bad(stack: Stack, matrix: Matrix) -> Outcome:
    """This driver version has a confirmed defect for this use.

    Shows itself as the row says: hangs, wrong values, or crashes that another driver does not have.

    Fix: the release that the row names as fixed.

    Source: the release note or issue of each row (`envlock matrix driver`).
    """
    if stack.driver_platform != "linux":
        return
    version, address, cuda = stack.driver.version, stack.driver_address, stack.driver.cuda
    # A pasted report may state the CUDA of nvidia-smi alone, which names the branch.
    label, fact = (
        (version, Evidence(address, version))
        if version
        else (f"for CUDA {cuda}", Evidence("driver.cuda", cuda))
    )
    for row in matrix.rows("driver", "known-bad"):
        affected = (version, row["versions"]) if version else (cuda, row.get("cuda", ""))
        if affected[0] and affected[1] and matches(*affected) and known_bad_applies(row, stack, matrix):
            fixed = row.get("fixed_in")
            yield Finding(
                subject=fact.address,
                message=f"driver {label} has a known defect: {row['problem']}",
                evidence=(fact,),
                fixes=(_driver_fix(fixed, f"install driver {fixed} or newer"),) if fixed else (),
                severity="note" if row.get("quiet") else row["severity"],
                quiet=bool(row.get("quiet")),
                rank=5 if row.get("quiet") else 0,
                source=row["source"],
                defect=row["problem"],
            )


def known_bad_applies(row: Any, stack: Stack, matrix: Matrix) -> bool:
    """Tell whether every condition of a known-bad row holds; a condition whose fact is missing does not."""
    if "compute_capabilities" in row:
        have = {device.capability for device in devices(stack, matrix)}
        if not have & set(row["compute_capabilities"]):
            return False
    if "flavor" in row and stack.driver.flavor != row["flavor"]:
        return False
    if "arch" in row and stack.manifest.host.arch != row["arch"]:
        return False
    if row.get("rdma") and not stack.manifest.host.rdma:
        return False
    if "min_gpus" in row and sum(gpu.count or 1 for gpu in stack.gpus) < int(row["min_gpus"]):
        return False
    if "package" in row and stack.package(row["package"]) is None:
        return False
    if "torch" in row:
        torch = stack.version_of("torch")
        if torch is None or not matches(torch.version, row["torch"]):
            return False
    return all(stack.environ.get(name) == value for name, value in row.get("environ", {}).items())


@rule("fabric-manager-mismatch", layer="driver", needs=("driver.version", "driver.fabric_manager"))
def fabric_manager_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """Fabric manager and driver are of different versions on an NVSwitch machine, or there is none.

    Shows itself as CUDA error 802, "system not yet initialized", while nvidia-smi looks healthy.

    Fix: install nvidia-fabricmanager of exactly the driver's version and restart the service.

    Source: NVIDIA Fabric Manager User Guide, Other NVIDIA Software Packages (the service ends where the loaded driver
    is not compatible) and Installing Fabric Manager; what nv-fabricmanager itself says of it, "driver interface
    version ... don't match with driver version".
    """
    driver = stack.driver
    address, manager = _fabric_manager(stack)
    if driver.fabric_manager == "" and address == "driver.fabric_manager":
        yield from _no_fabric_manager(stack, matrix)
    if not manager or not driver.version:
        return
    one, two = release(manager), release(driver.version)
    size = min(len(one), len(two))
    if one[:size] == two[:size]:
        return
    yield Finding(
        subject=address,
        message=f"fabric manager {manager} does not belong to driver {driver.version}: they must be equal",
        evidence=(
            Evidence(address, manager),
            Evidence(stack.driver_address, driver.version),
        ),
        fixes=(
            Fix(
                address=address,
                to=driver.version,
                message=f"install nvidia-fabricmanager {driver.version} and restart nvidia-fabricmanager.service",
                trial={address: driver.version},
            ),
        ),
        source="NVIDIA Fabric Manager User Guide, Other NVIDIA Software Packages; nv-fabricmanager's own message",
    )


_NVSWITCH = re.compile(
    r"(A100|A800)-?SXM4|H(100|800).*(HBM3|SXM5)|H20\b|H200(?!.*NVL)|B[23]00\b", re.IGNORECASE
)
"""GPUs whose boards of eight hold NVSwitches."""


def _no_fabric_manager(stack: Stack, matrix: Matrix) -> Outcome:
    """Tell that a board of eight SXM GPUs has no fabric manager, where somebody looked for one."""
    cards = [gpu for gpu in stack.gpus if _NVSWITCH.search(gpu.name or "") and (gpu.count or 0) >= 8]
    if not cards:
        return
    yield Finding(
        subject="driver.fabric_manager",
        message=f"{cards[0].count} x {cards[0].name} are joined by NVSwitches, and no fabric manager is there: CUDA "
        "does not start without it",
        evidence=(Evidence("driver.fabric_manager", ""), Evidence("gpu", [gpu.name for gpu in cards])),
        # A virtual machine may leave the switches to its host.
        severity="warning",
        source="NVIDIA Fabric Manager User Guide, Installing Fabric Manager, On NVSwitch-Based NVIDIA HGX Server Systems",
    )


def _fabric_manager(stack: Stack) -> tuple[str, str | None]:
    """Return the address and version of the fabric manager: as observed, else as its package says."""
    if stack.driver.fabric_manager:
        return "driver.fabric_manager", stack.driver.fabric_manager
    for name, version in stack.manifest.package.system.items():
        if re.fullmatch(r"(nvidia|cuda-drivers)-fabric-?manager(-\d+)?", name):
            return f"package.system.{name}", re.sub(r"^\d+:", "", version)
    return "driver.fabric_manager", None


@rule(
    "compat-libcuda-unsupported", layer="driver", needs=("driver.compat|driver.libcuda|library.cuda-compat",)
)
def compat_libcuda_unsupported(stack: Stack, matrix: Matrix) -> Outcome:
    """A forward-compatibility libcuda would be loaded where it is not supported.

    Shows itself as CUDA error 803 ("unsupported display driver / cuda driver combination") or 804
    ("forward compatibility was attempted on non supported HW"): the package is for data-centre GPUs, for
    certain base branches, and never for a driver that is newer than itself.

    Fix: keep /usr/local/cuda/compat off LD_LIBRARY_PATH and out of ld.so.conf.d; use the host's libcuda.

    Source: CUDA Compatibility, forward compatibility.
    """
    copy = next(iter(stack.libraries("cuda-compat")), None)
    compat = stack.driver.compat or _reported_compat(stack, matrix)
    loaded = copy is not None and bool(copy.used_by)
    if not compat and not loaded and not _is_compat(stack.driver.libcuda):
        return
    evidence = [Evidence("driver.compat" if stack.driver.compat else "driver.cuda", compat)] if compat else []
    if copy is not None:
        evidence.append(Evidence("library.cuda-compat", copy.path or copy.version or copy.name))
    if stack.driver.libcuda:
        evidence.append(Evidence("driver.libcuda", stack.driver.libcuda))
    known = compat or (copy.version if copy else None)
    reason, source, severity = _compat_reason(stack, matrix, known)
    if not reason:
        return
    version = f" of CUDA {compat}" if compat else ""
    yield Finding(
        subject="driver.compat"
        if stack.driver.compat
        else "library.cuda-compat"
        if copy
        else "driver.cuda"
        if compat
        else "driver.libcuda",
        message=f"a forward-compatibility libcuda{version} would be loaded, and {reason}",
        evidence=(*evidence, Evidence(stack.driver_address, stack.driver.version)),
        fixes=(
            Fix(
                address="driver.compat",
                to="not loaded",
                message="take /usr/local/cuda/compat off LD_LIBRARY_PATH (and out of /etc/ld.so.conf.d)",
                trial={
                    "driver.compat": None,
                    "library.cuda-compat": None,
                    "driver.libcuda": None,
                    **({} if stack.driver.compat or not compat else {"driver.cuda": None}),
                },
            ),
        ),
        severity=severity,
        source=source,
    )


def _reported_compat(stack: Stack, matrix: Matrix) -> str | None:
    """Return the CUDA that a driver reports beyond what its branch has: that of a compat libcuda in its place."""
    row = branch_row(matrix, stack.driver.version, stack.driver_platform)
    said, own = series(stack.driver.cuda), series(row.get("max_cuda")) if row else ()
    return stack.driver.cuda if said and own and said > own else None


def _is_compat(path: str | None) -> bool:
    return bool(path) and "/compat/" in str(path)


def _compat_reason(stack: Stack, matrix: Matrix, compat: str | None) -> tuple[str, str, Severity]:
    """Return why a compat libcuda does not work here, the source and how sure it is; "" where nothing is known."""
    rows = matrix.rows("cuda", "compat")
    source = rows[-1]["source"]
    lines = {device.line for device in devices(stack, matrix) if device.line}
    if lines and not lines & set(rows[-1]["lines"]):
        gpus = "/".join(sorted(lines)).replace("geforce", "GeForce")
        return f"forward compatibility is for data-centre GPUs, which this {gpus} GPU is not", source, "error"
    row = next((row for row in rows if compat and series(row["cuda"]) == series(compat)), None)
    own = driver_cuda(stack, matrix)
    if compat and own and series(compat) < own:
        return f"the driver itself is newer (CUDA {dotted(own)})", (row or rows[-1])["source"], "error"
    if not compat and any(copy.used_by for copy in stack.libraries("cuda-compat")):
        unknown = "its version is not known: it fails where the driver is the newer of the two"
        return unknown, source, "warning"
    return "", "", "note"


@rule("libcuda-stub-loaded", layer="driver", needs=("driver.libcuda|library.cuda",))
def libcuda_stub_loaded(stack: Stack, matrix: Matrix) -> Outcome:
    """The loader would find the toolkit's stub libcuda instead of the driver's.

    Shows itself as CUDA error 34 (cudaErrorStubLibrary), "CUDA driver is a stub library": the stub is for
    linking only and fails every call.

    Fix: take .../lib64/stubs off LD_LIBRARY_PATH; it belongs into LIBRARY_PATH.

    Source: CUDA Runtime API, cudaErrorStubLibrary.
    """
    path = stack.driver.libcuda or next(
        (copy.path for copy in stack.libraries("cuda") if copy.path and copy.used_by), None
    )
    entries = stack.environ.get("LD_LIBRARY_PATH", "").split(":")
    stub_entry = next((entry for entry in entries if entry.rstrip("/").endswith("/stubs")), None)
    if not path and stub_entry:
        # What is loaded was not seen; a program that asks for libcuda.so finds the stub first.
        path = f"{stub_entry.rstrip('/')}/libcuda.so"
    if not (path and "/stubs/" in path):
        return
    seen = bool(stack.driver.libcuda) or not stub_entry
    yield Finding(
        subject="driver.libcuda" if seen else "environ.LD_LIBRARY_PATH",
        message=f"the loader finds the toolkit's stub {path} instead of the driver's libcuda"
        if seen
        else f"LD_LIBRARY_PATH leads to the toolkit's stub {path}: a program that asks for libcuda.so loads it",
        evidence=(
            *([Evidence("driver.libcuda", path)] if seen else []),
            *([Evidence("environ.LD_LIBRARY_PATH", ":".join(entries))] if stub_entry else []),
        ),
        fixes=(
            Fix(
                address="driver.libcuda" if seen else "environ.LD_LIBRARY_PATH",
                to="the driver's own" if seen else f"without {stub_entry}",
                message=f"take {stub_entry or path.rpartition('/')[0]} off LD_LIBRARY_PATH",
                trial={
                    **({"driver.libcuda": None} if seen else {}),
                    **(
                        {"environ.LD_LIBRARY_PATH": ":".join(e for e in entries if e != stub_entry) or None}
                        if stub_entry
                        else {}
                    ),
                },
            ),
        ),
        severity="error" if seen else "warning",
        source="CUDA Runtime API, error cudaErrorStubLibrary",
    )
