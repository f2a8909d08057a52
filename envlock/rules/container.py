"""Rules about containers: what an image demands, what a container was given, and the toolkit that gives it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from envlock.manifest.versions import dotted, matches, series
from envlock.rules.driver import driver_cuda, driver_floor
from envlock.rules.engine import rule
from envlock.rules.gpu import known_builds
from envlock.rules.gpus import devices
from envlock.rules.model import Evidence, Finding, Fix, Severity, Unknown
from envlock.rules.requirements_language import (
    PREFIX,
    Facts,
    RequirementError,
    holds,
    parse,
    requirements,
)

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix
    from envlock.rules.model import Severity
    from envlock.rules.stack import Stack

Outcome = Iterator["Finding | Unknown"]

_TOOLKIT = "NVIDIA Container Toolkit documentation, Environment variables (OCI spec)"


@rule("image-requirement-unmet", layer="container", needs=("container.require", "driver.version|driver.cuda"))
def image_requirement_unmet(stack: Stack, matrix: Matrix) -> Outcome:
    """NVIDIA_REQUIRE_* of the image is not met by this machine.

    Shows itself as "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4, please update
    your driver to a newer version, or use an earlier cuda container". Newer runtimes (CDI mode) no longer
    check, and the program fails inside instead, with error 35, 803 or 804.

    Fix: a driver that meets the requirement, or an image for an older CUDA. NVIDIA_DISABLE_REQUIRE=1 turns
    only the check off.

    Source: NVIDIA Container Toolkit documentation, Specialized Configurations with Docker: Constraints;
    NVIDIA/nvidia-container-toolkit issue 152.
    """
    for address, text in _demands(stack):
        try:
            terms = parse(text)
        except RequirementError as error:
            yield Finding(
                subject=address,
                message=f"the image's requirement cannot be read: {error}",
                evidence=(Evidence(address, text),),
                severity="warning",
                source=_TOOLKIT,
            )
            continue
        machines = _machines(stack, matrix)
        if not terms or all(any(holds(text, facts) for facts in brands) for brands in machines):
            continue
        first = ",".join(map(str, terms[0]))
        driver = stack.driver
        have = [f"driver {driver.version}"] if driver.version else []
        highest = driver_cuda(stack, matrix)
        have += [f"supports CUDA {dotted(highest)}"] if highest else []
        yield Finding(
            subject=address,
            message=f"the image requires {first}"
            + (" (or one of " + str(len(terms) - 1) + " other combinations)" if len(terms) > 1 else "")
            + f", and this machine's {' '.join(have) or 'GPU does not meet it'}",
            evidence=(
                Evidence(address, text),
                *([Evidence(stack.driver_address, driver.version)] if driver.version else []),
                *([Evidence("driver.cuda", driver.cuda)] if driver.cuda else []),
                *(
                    [Evidence("gpu", [device.label for device in devices(stack, matrix)])]
                    if stack.gpus
                    else []
                ),
            ),
            fixes=_newer_driver(text, stack, matrix),
            severity=_severity(text, stack, matrix),
            source=_TOOLKIT,
        )


def _demands(stack: Stack) -> list[tuple[str, str]]:
    """Return what has to hold, and the fact that says so."""
    if stack.manifest.container.require:
        return [("container.require", stack.manifest.container.require)]
    # On a bare machine CUDA_VERSION is anybody's variable; in a container it is the old way to ask.
    contained = bool(stack.manifest.container.runtime) or stack.manifest.capture.source == "image"
    environ = {name: value for name, value in stack.environ.items() if contained or name != "CUDA_VERSION"}
    try:
        wanted = requirements(environ)
    except RequirementError:
        return []
    named = {value: f"environ.{name}" for name, value in sorted(environ.items()) if name.startswith(PREFIX)}
    return [(named.get(text, "environ.CUDA_VERSION"), text) for text in wanted]


def _machines(stack: Stack, matrix: Matrix) -> list[list[Facts]]:
    """Return, for each GPU, the facts it may have: its brand is known only by its product line."""
    highest = driver_cuda(stack, matrix)
    cuda = dotted(highest) if highest else None
    brands = {row["line"]: row["brands"] for row in matrix.rows("container", "brand")}
    found = [
        [
            Facts(cuda, stack.driver.version, device.capability, brand)
            for brand in brands.get(device.line or "", (None,))
        ]
        for device in devices(stack, matrix)
    ]
    return found or [[Facts(cuda, stack.driver.version)]]


def _wanted_cuda(text: str) -> tuple[int, ...]:
    """Return the CUDA that a requirement's first term asks for; () where it asks for none."""
    factors = parse(text)[0]
    return next(
        (series(each.value) for each in factors if each.property == "cuda" and ">" in each.operator), ()
    )


def _severity(text: str, stack: Stack, matrix: Matrix) -> Severity:
    """Judge: a container that runs was not refused, and minor-version compatibility may carry it."""
    wanted, highest = _wanted_cuda(text), driver_cuda(stack, matrix)
    runs = bool(stack.manifest.container.runtime) and bool(stack.driver.version or stack.driver.cuda)
    same_major = bool(wanted) and bool(highest) and wanted[0] == highest[0] and wanted[0] >= 11
    return "warning" if runs and same_major and not stack.partial else "error"


def _newer_driver(text: str, stack: Stack, matrix: Matrix) -> tuple[Fix, ...]:
    wanted = _wanted_cuda(text)
    if not wanted:
        return ()
    row = next((row for row in matrix.rows("cuda", "toolkit") if series(row["cuda"]) == wanted), None)
    version = row.get(f"driver_{stack.driver_platform}") if row else driver_floor(wanted, stack, matrix)[0]
    if not version:
        return ()
    return (
        Fix(
            address="driver.version",
            to=f">={version}",
            message=f"install driver {version} or newer on the host",
            trial={"driver.version": version, "driver.kernel_module": None, "driver.cuda": dotted(wanted)},
        ),
    )


@rule("container-without-gpu", layer="container", needs=("container", "driver"))
def container_without_gpu(stack: Stack, matrix: Matrix) -> Outcome:
    """A container on a GPU machine was given no GPU, or no compute or utility capability.

    Shows itself as "Found no NVIDIA driver on your system", "nvidia-smi: command not found", or "Failed to
    initialize NVML" inside, while the host's nvidia-smi works: it was started without --gpus (or the nvidia
    runtime), NVIDIA_VISIBLE_DEVICES is void, or NVIDIA_DRIVER_CAPABILITIES leaves compute out.

    Fix: docker run --gpus all (or --runtime=nvidia, --device nvidia.com/gpu=all); with
    NVIDIA_DRIVER_CAPABILITIES=compute,utility. In Kubernetes ask for nvidia.com/gpu.

    Source: NVIDIA Container Toolkit documentation, Specialized Configurations with Docker: GPU Enumeration and
    Driver Capabilities.
    """
    driver, container = stack.driver, stack.manifest.container
    served = any((driver.version, driver.cuda, driver.libcuda))
    builds = known_builds(stack)
    if stack.manifest.capture.source in ("image", "root") or (builds and all(b.cuda == "" for b in builds)):
        return
    yield from _capabilities(stack, served)
    if served:
        return
    hidden = _devices(stack)
    if hidden:
        yield _no_gpu(stack, hidden[0], f"{hidden[1]} gives the container no GPU", bool(stack.partial))
    elif container.runtime and not container.visible_devices and _driver_not_seen(stack):
        wants = stack.partial or any(build.cuda for build in builds) or bool(stack.gpus)
        if wants:
            what = f"the {container.runtime} container holds no NVIDIA driver: it was started without a GPU"
            # Where nobody asked for a GPU, a CI runner without one looks the same: worth a note, not a warning.
            yield _no_gpu(stack, "container", what, stack.partial, "note")
    elif container.runtime and container.visible_devices and _driver_not_seen(stack):
        what = f"the {container.runtime} container asks for GPUs ({container.visible_devices}) and was given no driver"
        yield _no_gpu(stack, "container", f"{what}: the NVIDIA runtime did not serve it", stack.partial)


def _driver_not_seen(stack: Stack) -> bool:
    """Tell whether somebody looked for a driver and found none; a paste that is silent tells nothing."""
    reasons = stack.manifest.capture.unobserved
    looked = "driver" in reasons or "gpu" in reasons
    return looked or (not stack.partial and not stack.gpus)


def _devices(stack: Stack) -> tuple[str, str] | None:
    """Return the fact that hands out no GPU, and its spelling; None where none does."""
    given = stack.manifest.container.visible_devices
    environ = stack.environ.get("NVIDIA_VISIBLE_DEVICES")
    # Under CDI the runtime sets "void" itself beside real devices: only where none is seen does it tell.
    if stack.gpus:
        return None
    if given in ("none", "void"):
        return "container.visible_devices", f"NVIDIA_VISIBLE_DEVICES={given}"
    if environ in ("none", "void"):
        return "environ.NVIDIA_VISIBLE_DEVICES", f"NVIDIA_VISIBLE_DEVICES={environ}"
    return None


def _no_gpu(
    stack: Stack, address: str, message: str, certain: bool, otherwise: Severity = "warning"
) -> Finding:
    container, reasons = stack.manifest.container, stack.manifest.capture.unobserved
    facts: list[tuple[str, Any]] = [
        ("container.runtime", container.runtime),
        ("container.visible_devices", container.visible_devices),
        ("environ.NVIDIA_VISIBLE_DEVICES", stack.environ.get("NVIDIA_VISIBLE_DEVICES")),
        ("driver", reasons.get("driver")),
        ("gpu", reasons.get("gpu")),
    ]
    return Finding(
        subject=address,
        message=message,
        evidence=tuple(
            Evidence(at, value)
            for at, value in facts
            if value is not None or at == "container.visible_devices"
        ),
        severity="error" if certain else otherwise,
        source=_TOOLKIT,
    )


def _capabilities(stack: Stack, served: bool) -> Outcome:
    """Judge NVIDIA_DRIVER_CAPABILITIES: without compute there is no libcuda, without utility no NVML."""
    given = stack.manifest.container.driver_capabilities or stack.environ.get("NVIDIA_DRIVER_CAPABILITIES")
    address = "container.driver_capabilities"
    if not stack.manifest.container.driver_capabilities and given:
        address = "environ.NVIDIA_DRIVER_CAPABILITIES"
    names = {name.strip() for name in (given or "").lower().split(",") if name.strip()}
    lacking = [name for name in ("compute", "utility") if name not in names]
    visible = stack.manifest.container.visible_devices
    if not names:
        if visible and visible not in ("none", "void") and stack.partial and not served:
            yield Finding(
                subject=address,
                message=f"NVIDIA_VISIBLE_DEVICES={visible} is set and NVIDIA_DRIVER_CAPABILITIES is not: some runtimes "
                "then leave the compute libraries out",
                evidence=(Evidence(address, None), Evidence("container.visible_devices", visible)),
                fixes=_give_capabilities(address),
                severity="note",
                source=_TOOLKIT,
            )
        return
    if "all" in names or not lacking or (served and "compute" in names) or stack.driver.libcuda:
        return
    compute = "compute" in lacking
    yield Finding(
        subject=address,
        message=f"NVIDIA_DRIVER_CAPABILITIES={given} leaves out {' and '.join(lacking)}: the container gets no "
        + ("libcuda, so CUDA does not work" if compute else "NVML and no nvidia-smi"),
        evidence=(
            Evidence(address, given),
            *([Evidence("container.visible_devices", visible)] if visible else []),
        ),
        fixes=_give_capabilities(address),
        severity="error" if compute and not stack.driver.cuda else "warning",
        source=_TOOLKIT,
    )


def _give_capabilities(address: str) -> tuple[Fix, ...]:
    value = "compute,utility"
    trial = {address: value}
    if address.startswith("container."):
        trial["environ.NVIDIA_DRIVER_CAPABILITIES"] = value
    return (Fix(address, value, f"set NVIDIA_DRIVER_CAPABILITIES={value}", trial),)


@rule("container-toolkit-mismatch", layer="container", severity="warning", needs=("container.toolkit",))
def container_toolkit_mismatch(stack: Stack, matrix: Matrix) -> Outcome:
    """The container toolkit is missing, too old for the driver, or known bad.

    Shows itself as "could not select device driver "" with capabilities: [[gpu]]" (missing), as containers that
    do not start, or as CUDA errors in a container while the host works.

    Fix: install or upgrade nvidia-container-toolkit, then `nvidia-ctk runtime configure` and restart the engine.

    Source: NVIDIA/nvidia-container-toolkit CHANGELOG.md; NVIDIA Container Toolkit documentation, "Installing the
    NVIDIA Container Toolkit", Installation.
    """
    toolkit, container = stack.manifest.container.toolkit, stack.manifest.container
    if toolkit is None:
        return
    if toolkit == "":
        asked = any((container.image, container.require, container.visible_devices, container.runtime))
        if asked or stack.gpus or stack.partial:
            yield Finding(
                subject="container.toolkit",
                message="a container engine is there without the NVIDIA container toolkit: containers get no GPU",
                evidence=(Evidence("container.toolkit", ""),),
                fixes=(
                    Fix(
                        address="container.toolkit",
                        to="installed",
                        message="install nvidia-container-toolkit and run nvidia-ctk runtime configure",
                        trial={"container.toolkit": "999"},
                    ),
                ),
                severity="error" if stack.partial and asked else "warning" if asked else "note",
                source="NVIDIA Container Toolkit documentation, Installing the NVIDIA Container Toolkit, Installation",
                rank=0 if asked else 3,
            )
        return
    for row in matrix.rows("container", "toolkit-known-bad"):
        if matches(toolkit, row["versions"]) and _toolkit_row_applies(row, stack):
            yield _toolkit_finding(toolkit, row, stack)


def _toolkit_finding(toolkit: str, row: Any, stack: Stack) -> Finding:
    when = f" (in {row['when']})" if "when" in row else ""
    fixed = row.get("fixed_in")
    facts = [
        (stack.driver_address, stack.driver.version if "driver" in row else None),
        ("container.runtime", stack.manifest.container.runtime if "runtime" in row else None),
        ("os.id", stack.manifest.os.id if "os" in row else None),
        ("driver.compat", stack.driver.compat if "compat" in row else None),
    ]
    return Finding(
        subject="container.toolkit",
        message=f"nvidia-container-toolkit {toolkit}: {row['problem']}{when}",
        evidence=(
            Evidence("container.toolkit", toolkit),
            *(Evidence(address, value) for address, value in facts if value),
        ),
        fixes=(
            Fix(
                address="container.toolkit",
                to=f">={fixed}",
                message=f"upgrade nvidia-container-toolkit to {fixed} or newer",
                trial={"container.toolkit": fixed},
            ),
        )
        if fixed
        else (),
        severity=row["severity"],
        source=row["source"],
    )


def _toolkit_row_applies(row: Any, stack: Stack) -> bool:
    """Tell whether every condition of a row holds; a condition whose fact is missing does not."""
    container = stack.manifest.container
    if "driver" in row and not (stack.driver.version and matches(stack.driver.version, row["driver"])):
        return False
    if row.get("legacy_image") and not (
        stack.environ.get("CUDA_VERSION") and not stack.environ.get("NVIDIA_REQUIRE_CUDA")
    ):
        return False
    if row.get("compat") and not (stack.driver.compat or stack.libraries("cuda-compat")):
        return False
    if "runtime" in row and container.runtime not in row["runtime"]:
        return False
    return not ("os" in row and stack.manifest.os.id not in row["os"])


_LINUX_DRIVER = re.compile(
    r"nvidia-(?:driver|dkms|kernel|utils|compute-utils)(?:-.*)?|libnvidia-(?:compute|gl|cfg1?)(?:-.*)?|cuda-drivers(?:-.*)?"
    r"|libcuda1|nvidia-open(?:-.*)?|akmod-nvidia|kmod-nvidia.*|xorg-x11-drv-nvidia.*"
)


@rule("wsl-driver-conflict", layer="container", needs=("host.platform",))
def wsl_driver_conflict(stack: Stack, matrix: Matrix) -> Outcome:
    """A Linux driver is installed inside WSL2, where the driver is that of Windows.

    Shows itself as "Failed to initialize NVML: GPU access blocked by the operating system", error 100, or a
    libcuda that finds no device: the Linux driver's libcuda hides the one under /usr/lib/wsl/lib.

    Fix: purge the Linux driver packages (install cuda-toolkit, never cuda or cuda-drivers), then
    `wsl --shutdown`.

    Source: CUDA on WSL User Guide, "do not install any NVIDIA GPU Linux driver within WSL 2".
    """
    manifest = stack.manifest
    if not stack.wsl2:
        return
    packages = [name for name in manifest.package.system if _LINUX_DRIVER.fullmatch(name)]
    libcuda = stack.driver.libcuda or ""
    foreign = (
        bool(libcuda)
        and not libcuda.startswith("/usr/lib/wsl/")
        and not any(part in libcuda for part in ("/compat/", "/stubs/"))
        and bool(re.search(r"\.so\.\d+\.\d+", libcuda) and not libcuda.endswith(".so.1.1"))
        and not manifest.container.runtime
    )
    if not packages and not foreign:
        return
    address = "driver.libcuda" if foreign else f"package.system.{packages[0]}"
    names = " ".join(packages)
    trial: dict[str, Any] = {f"package.system.{name}": None for name in packages}
    if foreign:
        trial["driver.libcuda"] = None
    yield Finding(
        subject=address,
        message="a Linux driver is installed inside WSL2, where the driver is that of Windows: "
        + (f"{libcuda} is loaded instead of /usr/lib/wsl/lib/libcuda.so.1" if foreign else names),
        evidence=(
            Evidence("host.platform", "wsl2")
            if manifest.host.platform == "wsl2"
            else Evidence("host.kernel", manifest.host.kernel),
            *([Evidence("driver.libcuda", libcuda)] if libcuda else []),
            *(Evidence(f"package.system.{name}", manifest.package.system[name]) for name in packages),
        ),
        fixes=(
            Fix(
                address=address,
                to="removed",
                message=f"purge {names or 'the Linux driver'} inside WSL2, then run wsl --shutdown",
                trial=trial,
            ),
        ),
        severity="error" if foreign else "warning",
        source="CUDA on WSL User Guide, Getting started",
    )
