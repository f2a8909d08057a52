"""What would run here: the builds of a framework that a driver, GPU, Python and libc can run, and fixes made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from envlock.errors import EnvlockError
from envlock.manifest.model import Gpu, Library, Manifest
from envlock.manifest.versions import dotted, matches, release, series
from envlock.matrix.lookup import nvcc_row
from envlock.rules.builds import Build, builds, torch_install
from envlock.rules.driver import below_floor, driver_branch, driver_cuda, driver_floor
from envlock.rules.gpus import Device, capability_rows, devices, sm
from envlock.rules.model import Fix
from envlock.rules.stack import Stack

if TYPE_CHECKING:
    from envlock.matrix.loader import Matrix

Runs = Literal["yes", "no", "unknown"]


class Reason(NamedTuple):
    """One thing that speaks against a build, is missing to judge it, or must hold besides."""

    kind: Literal["no", "unknown", "if"]
    text: str
    detail: str = ""


class Judged(NamedTuple):
    """A build and whether it runs on a stack."""

    build: Build
    runs: Runs
    reasons: tuple[Reason, ...]
    """Why not; for "unknown" what is missing; for "yes" what else must hold ("Python >=3.10")."""


def judge(stack: Stack, matrix: Matrix, project: str, specifier: str = "") -> list[Judged]:
    """Judge every build of a project in a PEP 440 specifier against a stack, newest first.

    CPU builds are judged only where it is known that there is no GPU, and then they alone. Raises
    EnvlockError for a project or specifier that is none.
    """
    without = stack.absent("gpu", stack.gpus) and stack.absent("driver", stack.driver.version)
    found = builds(matrix, project, specifier)
    some = [build for build in found if bool(build.cuda) != without] or [
        build for build in found if build.cuda
    ]
    return [_judged(build, stack, matrix) for build in some]


def builds_that_run(stack: Stack, matrix: Matrix, project: str, specifier: str = "") -> list[Build]:
    """Return the builds that are known to run on a stack, newest first."""
    return [each.build for each in judge(stack, matrix, project, specifier) if each.runs == "yes"]


def _judged(build: Build, stack: Stack, matrix: Matrix) -> Judged:
    reasons = []
    if build.cuda:
        reasons += [*_driver(build, stack, matrix), *_gpus(build, stack, matrix), *_system(build)]
    reasons += [*_python(build, stack), *_libc(build, stack), *_platform(stack)]
    for kind in ("no", "unknown"):
        some = tuple(dict.fromkeys(reason for reason in reasons if reason.kind == kind))
        if some:
            return Judged(build, kind, some)
    return Judged(build, "yes", tuple(reasons))


def _platform(stack: Stack) -> Iterator[Reason]:
    host = stack.manifest.host
    if host.platform == "darwin":
        yield Reason("no", "no CUDA build runs on macOS")
    elif host.arch not in (None, "x86_64", "amd64", "AMD64") or host.platform in ("windows", "tegra"):
        what = host.arch if host.platform in (None, "linux", "wsl2") else host.platform
        yield Reason("unknown", f"the matrix has the builds for Linux on x86-64 only, and this is {what}")


def _python(build: Build, stack: Stack) -> Iterator[Reason]:
    python = stack.manifest.python
    abi = re.match(r"cp(\d)(\d+)", python.abi or "")
    have = python.version or (f"{abi[1]}.{abi[2]}" if abi else None)
    if not build.python:
        return
    if have is None:
        yield Reason("if", f"Python {build.python}")
    elif matches(have, build.python) is False:
        yield Reason("no", f"no wheel for Python {have}", f"it is for {build.python}")
    elif "<" not in build.python:
        short = ".".join(have.split(".")[:2])
        yield Reason(
            "if", f"{build.project} has wheels for Python {short}", "the matrix has its oldest Python only"
        )


def _libc(build: Build, stack: Stack) -> Iterator[Reason]:
    libc = stack.manifest.os.libc
    if not build.glibc:
        return
    if not libc:
        yield Reason("if", f"glibc >={build.glibc}")
        return
    name, _, number = libc.partition(" ")
    if name != "glibc":
        yield Reason("no", f"it needs glibc {build.glibc}, and this system has {libc}")
    elif release(number) < release(build.glibc):
        yield Reason("no", f"it needs glibc {build.glibc} or newer, not {number}")


def _driver(build: Build, stack: Stack, matrix: Matrix) -> Iterator[Reason]:
    driver = stack.driver
    if not (driver.version or driver.cuda):
        if stack.absent("driver", driver.version) and not stack.manifest.container.runtime:
            yield Reason("no", "no NVIDIA driver is installed")
        else:
            yield Reason("unknown", "driver.version")
        return
    wanted = series(build.cuda)
    if driver.compat and series(driver.compat) >= wanted:
        return
    floor, _, known = driver_floor(wanted, stack, matrix)
    if not known:
        yield Reason("unknown", f"the driver that CUDA {build.cuda} needs")
    elif below_floor(stack, floor, wanted, matrix):
        # From CUDA 11 on a whole major has one floor: minor-version compatibility.
        cuda = str(wanted[0]) if wanted[0] >= 11 else build.cuda
        yield Reason("no", f"CUDA {cuda} needs driver {floor} or newer")


def _gpus(build: Build, stack: Stack, matrix: Matrix) -> Iterator[Reason]:
    found = devices(stack, matrix)
    if not found:
        yield Reason("no", "no NVIDIA GPU is there") if stack.absent("gpu", ()) else Reason("unknown", "gpu")
    archs, ptx = _code(build, stack)
    for device in found:
        yield from _driver_for(device, stack, matrix)
        if device.capability is None:
            yield Reason("unknown", f"the compute capability of {device.name or 'the GPU'}")
        elif archs is not None:
            yield from _code_for(build, device, archs, ptx, stack, matrix)
        else:
            yield from _code_by_toolkit(build, device, matrix)


def _driver_for(device: Device, stack: Stack, matrix: Matrix) -> Iterator[Reason]:
    """Judge the driver's branch by the GPU: too old to know it, or so new that it was dropped."""
    branch = driver_branch(stack, matrix)
    if branch is None:
        return
    for row in capability_rows(device, matrix.rows("driver", "gpu-support")):
        if row.get("first_branch") and branch < int(row["first_branch"]):
            yield Reason("no", f"{device.label} needs driver {row['first_branch']} or newer")
        if row.get("last_branch") and branch > int(row["last_branch"]):
            yield Reason("no", f"driver {row['last_branch']} is the last for {device.label}")


def _code(build: Build, stack: Stack) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the architectures of a build's code; of the installed build what was read from its own binary."""
    held = stack.framework(build.project)
    if held is None or held.version != build.label or not held.archs:
        return build.archs, build.ptx
    return tuple(map(_capability, held.archs)), tuple(map(_capability, held.ptx or ()))


def _capability(arch: str) -> str:
    """Return an architecture as a compute capability: "sm_120a" -> "12.0"; other text stays as it is."""
    digits = re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[a-z]?", arch)
    return f"{digits[1]}.{digits[2]}" if digits else arch


def runs_code(capability: str, archs: tuple[str, ...]) -> bool:
    """Tell whether machine code for one of these capabilities runs on a GPU: same major, minor not above.

    Source: CUDA C++ Programming Guide, Binary compatibility.
    """
    have = series(capability)
    return any(series(arch)[0] == have[0] and series(arch) <= have for arch in archs if series(arch))


def _code_for(
    build: Build,
    device: Device,
    archs: tuple[str, ...],
    ptx: tuple[str, ...] | None,
    stack: Stack,
    matrix: Matrix,
) -> Iterator[Reason]:
    capability = device.capability or ""
    if runs_code(capability, archs):
        return
    older = [arch for arch in archs if series(arch) <= series(capability)]
    if ptx is None and older:
        yield Reason("unknown", f"whether it holds PTX for {sm(capability)}")
        return
    if not any(series(arch) <= series(capability) for arch in ptx or ()):
        ends = f"{sm(archs[0])} to {sm(archs[-1])}" if len(archs) > 1 else sm(archs[0]) if archs else "none"
        yield Reason("no", f"it holds no code for {sm(capability)}", f"only {ends}")
        return
    highest = driver_cuda(stack, matrix)
    if not highest:
        yield Reason("unknown", "driver.cuda")
    elif highest < series(build.cuda):
        yield Reason(
            "no",
            f"it holds only PTX for {sm(capability)}, which needs a driver for CUDA {build.cuda}, "
            f"and this one is for {dotted(highest)}",
        )
    else:
        yield Reason("if", f"a slow first start: {sm(capability)} is compiled from PTX")


def _code_by_toolkit(build: Build, device: Device, matrix: Matrix) -> Iterator[Reason]:
    """Judge a build whose architectures the matrix does not have by what its toolkit can build for."""
    capability = device.capability or ""
    if build.capability and series(capability) < series(build.capability):
        yield Reason("no", f"it needs compute capability {build.capability}, which {sm(capability)} is below")
        return
    row = nvcc_row(matrix, _known_minor(build.compiler_cuda, matrix))
    can = tuple(map(_capability, row["archs"])) if row else ()
    if can and not any(series(arch) <= series(capability) for arch in can):
        major = build.compiler_cuda.split(".")[0]
        yield Reason("no", f"CUDA {major} builds no code for {sm(capability)}")
    elif not (build.capability and runs_code(capability, can)):
        yield Reason("unknown", f"whether it holds code for {sm(capability)}")


def _known_minor(cuda: str, matrix: Matrix) -> str:
    """Return the newest minor of a bare major ("13" -> "13.5"): what it can build for at most."""
    if "." in cuda or not cuda:
        return cuda
    minors = [row["cuda"] for row in matrix.rows("cuda", "nvcc") if row["cuda"].split(".")[0] == cuda]
    return max(minors, key=series, default=cuda)


def _system(build: Build) -> Iterator[Reason]:
    if not build.brings_cuda:
        yield Reason("if", f"CUDA {build.cuda} and cuDNN {build.cudnn} are installed besides")


class UnknownGpuError(EnvlockError):
    """A GPU that was stated and that the matrix does not know."""


def stated_gpu(text: str, matrix: Matrix) -> dict[str, str]:
    """Return the ``[[gpu]]`` table of a GPU stated by name, capability or architecture: "H100", "9.0", "sm_90".

    Raises UnknownGpuError with the nearest names that the matrix has.
    """
    plain = text.strip()
    digits = re.fullmatch(r"(?:(?:sm|compute)_?)?(\d{1,2})(?:\.?(\d))[a-z]?", plain, re.IGNORECASE)
    if digits:
        capability = f"{digits[1]}.{digits[2]}"
        known = {each for row in matrix.rows("gpu", "architecture") for each in row["compute_capabilities"]}
        if capability in known:
            return {"compute_capability": capability}
        raise UnknownGpuError(
            f"no GPU of compute capability {capability} is known; --gpu takes a name, 9.0 or sm_90"
        )
    (device,) = devices(Stack(Manifest(gpu=(Gpu(name=plain),))), matrix)
    if device.capability:
        return {"name": plain, "compute_capability": device.capability}
    from difflib import get_close_matches

    near = get_close_matches(plain, [row["name"] for row in matrix.rows("gpu", "gpu")], n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UnknownGpuError(f"the matrix has no GPU {plain!r}: state its compute capability (--gpu 9.0){hint}")


def rebuild_fixes(stack: Stack, matrix: Matrix, project: str) -> tuple[Fix, ...]:
    """Return fixes that put another build of a framework in place of the installed one, smallest change first.

    That is the same release for another CUDA, else the nearest release that runs. Empty where the
    framework did not come from pip, or where nothing is known to run.
    """
    held = stack.version_of(project)
    if project != "torch" or held is None or held.manager == "conda" or not held.version:
        return ()
    installed = held.version.partition("+")[0]
    framework = stack.framework(project)
    cuda = framework.cuda if framework and framework.cuda else _cuda_of(held.version)
    judged = [
        each
        for each in judge(stack, matrix, project)
        # A CPU build runs anywhere, and mends nothing for somebody who has a GPU.
        if each.build.cuda and not (_same_release(each.build, installed) and each.build.cuda == cuda)
    ]
    # A manifest may lack the GPU or the driver; then a fix says for which it is.
    for fitting in (_known_to_run, _runs_where_its_kind_does):
        running = [each.build for each in judged if fitting(each)]
        same = [build for build in running if _same_release(build, installed)][:1]
        if found := same or _nearest(running, installed, matrix):
            return tuple(_rebuild(stack, build, installed, matrix) for build in found)
    return ()


def _cuda_of(version: str) -> str:
    label = re.fullmatch(r".*\+cu(\d+)(\d)", version)
    return f"{label[1]}.{label[2]}" if label else ""


def _same_release(build: Build, installed: str) -> bool:
    return matches(build.version, f"=={installed}") is True


def _known_to_run(judged: Judged) -> bool:
    return judged.runs == "yes"


def _runs_where_its_kind_does(judged: Judged) -> bool:
    return judged.runs == "unknown" and {reason.text for reason in judged.reasons} <= {
        "gpu",
        "driver.version",
    }


def _nearest(running: list[Build], installed: str, matrix: Matrix) -> list[Build]:
    """Return the builds of the nearest older and the nearest newer release, the nearer first."""
    order = sorted({release(build.version) for build in builds(matrix, "torch")} | {release(installed)})
    place = {numbers: at for at, numbers in enumerate(order)}
    here = place[release(installed)]

    def distance(build: Build) -> int:
        return abs(place[release(build.version)] - here)

    found = []
    for newer in (False, True):
        side = [build for build in running if (place[release(build.version)] > here) is newer]
        found += sorted(side, key=distance)[:1]
    return sorted(found, key=distance)


def _rebuild(stack: Stack, build: Build, installed: str, matrix: Matrix) -> Fix:
    companions = {
        name: pin
        for name, pin in build.companions.items()
        if stack.pip(name) is not None and name != "triton"
    }
    beside = " and ".join(f"{name} {pin}" for name, pin in companions.items())
    command = torch_install(build.version, companions, build.cuda)
    limits = _limits(stack, build, matrix)
    return Fix(
        address="framework.torch.version" if stack.framework("torch") else "package.pip.torch",
        to=build.label,
        message=f"install torch {build.label}{' with ' + beside if beside else ''}{limits}: {command}",
        trial=_trial(stack, build, installed),
    )


def _limits(stack: Stack, build: Build, matrix: Matrix) -> str:
    """Return for which GPUs and drivers a build is, where the stack does not say what it has."""
    told = []
    if not stack.gpus and build.archs:
        told.append(f"GPUs from {sm(build.archs[0])} to {sm(build.archs[-1])}")
    floor, _, known = driver_floor(series(build.cuda), stack, matrix)
    if known and not (stack.driver.version or stack.driver.cuda):
        branches = [
            int(row["first_branch"])
            for device in devices(stack, matrix)
            for row in capability_rows(device, matrix.rows("driver", "gpu-support"))
            if row.get("first_branch")
        ]
        newest = max(branches, default=0)
        told.append(f"driver {newest if newest > release(floor)[0] else floor} or newer")
    return f" (for {' and '.join(told)})" if told else ""


def _trial(stack: Stack, build: Build, installed: str) -> dict[str, Any]:
    """Return what the manifest would hold with another build of torch."""
    trial: dict[str, Any] = {}
    if stack.framework("torch") is not None:
        trial |= {
            "framework.torch.version": build.label,
            "framework.torch.cuda": build.cuda,
            "framework.torch.archs": [sm(arch) for arch in build.archs] if build.archs else None,
            "framework.torch.ptx": ["compute_" + arch.replace(".", "") for arch in build.ptx or ()],
            "framework.torch.cudnn": build.cudnn or None,
            "framework.torch.nccl": None,
        }
    if stack.pip("torch") is not None:
        trial["package.pip.torch.version"] = build.label
    for name, pin in build.companions.items():
        if stack.pip(name) is None:
            continue
        trial[f"package.pip.{name}.version"] = (
            pin if name == "triton" else f"{pin}+{build.label.partition('+')[2]}"
        )
        if stack.framework(name) is not None:
            trial |= {f"framework.{name}.version": trial[f"package.pip.{name}.version"],
                      f"framework.{name}.cuda": build.cuda}  # fmt: skip
            trial |= {f"framework.{name}.archs": None, f"framework.{name}.built_for": {}}
        if name != "triton" and name in stack.manifest.requires:
            others = [line for line in stack.manifest.requires[name] if not re.match(r"torch\b(?!-)", line)]
            trial[f"requires.{name}"] = [f"torch=={build.version}", *others]
    return trial | _cuda_packages(stack, build, same_release=_same_release(build, installed))


_CUDA_PACKAGE = re.compile(r"(?:nvidia|cuda|triton|pytorch-triton)\b")


def _cuda_packages(stack: Stack, build: Build, *, same_release: bool) -> dict[str, Any]:
    """Take out the CUDA packages that the old build pins, and the libraries that they brought.

    pip installs those that the new build pins; which they are is in its metadata, so nothing is claimed of them.
    """
    lines = stack.manifest.requires.get("torch", ())
    pinned = [re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines if _CUDA_PACKAGE.match(line)]
    if not lines and stack.partial:
        # A pasted report lists no requirements; torch's wheels pin all of these that they use.
        pinned = [name for name in stack.manifest.package.pip if re.fullmatch(r"nvidia-[a-z-]+-cu\d+", name)]
    trial: dict[str, Any] = {
        f"package.pip.{name}": None for name in pinned if name.startswith("nvidia-") and stack.pip(name)
    }
    for name in pinned:
        if f"package.pip.{name}" in trial and name in stack.manifest.requires:
            trial[f"requires.{name}"] = None
    if lines:
        # Another release asks for other things; which is not known before it is installed.
        kept = [line for line in lines if not _CUDA_PACKAGE.match(line)] if same_release else []
        trial["requires.torch"] = kept or None
    for name in sorted({library.name for library in stack.manifest.library}):
        copies = stack.libraries(name)
        if any(_brought(copy) for copy in copies):
            trial[f"library.{name}"] = [
                _replaced(copy, build) if _brought(copy) else _plain(copy) for copy in copies
            ]
    return trial


def _brought(copy: Library) -> bool:
    return "torch" in copy.used_by and (copy.provider or "").startswith("pip:nvidia-")


def _replaced(copy: Library, build: Build) -> dict[str, Any]:
    plain = {
        key: value
        for key, value in _plain(copy).items()
        if key not in ("version", "soname", "provider", "path")
    }
    if copy.name == "cudnn" and build.cudnn:
        plain["version"] = build.cudnn
    return {**plain, "cuda": build.cuda.split(".")[0]}


def _plain(copy: Library) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(copy)
    return plain
